/**
 * The one contract of everything that runs for long: an embedded server, a page, a timer, a worker.
 *
 * - `start` resolves when the service is ready for use; it rejects with a `Failure` and leaves nothing running.
 * - `stop` completes what runs, then releases everything; calling it twice, or before `start`, is fine.
 */
export interface Service {
  start(signal?: AbortSignal): Promise<void>
  stop(): Promise<void>
}
