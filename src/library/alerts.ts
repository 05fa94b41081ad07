import type { Control } from '../control/control.ts'
import { acknowledgeAlert, listAlerts, type OpenAlert, silenceAlert } from '../monitoring/alerts.ts'

/** What somebody should look at. Rows are as `yardmaster alert list --json` has them. */
export class Alerts {
  readonly #control: () => Promise<Control>

  constructor(control: () => Promise<Control>) {
    this.#control = control
  }

  /** Those that are open, worst and oldest first; with `closed`, so many behind them that are over. */
  async list({ closed = 0 }: { readonly closed?: number } = {}): Promise<OpenAlert[]> {
    return listAlerts(await this.#control(), closed)
  }

  /** Somebody has seen it. Throws `alert_unknown`, `alert_over`. */
  async acknowledge(id: string, note: string | null = null): Promise<OpenAlert> {
    return acknowledgeAlert(await this.#control(), id, note)
  }

  /** `until` null: it is heard again. Throws `alert_unknown`, `alert_over`. */
  async silence(id: string, until: Date | null): Promise<OpenAlert> {
    return silenceAlert(await this.#control(), id, until)
  }
}
