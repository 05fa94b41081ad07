import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** What one child process, with all its children, cost. */
export interface Cost {
  /** Wall-clock seconds. */
  readonly seconds: number
  /** User and system CPU seconds of the client processes. */
  readonly cpu: number
  /** Highest sum of resident memory seen, MiB; sampled every 20 ms. */
  readonly peakMiB: number
  readonly stdout: string
}

/** Runs a shell command line under bash's `time` and samples the memory of its process group. */
export async function measure(command: string, environment: Readonly<Record<string, string>> = {}): Promise<Cost> {
  const script = `TIMEFORMAT='cpu %U %S'; time { ${command}; }`
  const child = spawn('bash', ['-c', script], { env: { ...process.env, ...environment }, detached: true })
  const group = child.pid ?? 0
  let peak = 0
  const sampling = setInterval(() => {
    peak = Math.max(peak, residentMiB(group))
  }, 20)
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  const started = performance.now()
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  const seconds = (performance.now() - started) / 1000
  clearInterval(sampling)
  const times = /cpu ([\d.]+) ([\d.]+)\s*$/.exec(stderr)
  if (code !== 0 || !times)
    throw new Error(`A measured command ended with ${code}: ${stderr.slice(-2000)}${stdout.slice(-500)}`)
  return { seconds, cpu: Number(times[1]) + Number(times[2]), peakMiB: peak, stdout }
}

function residentMiB(group: number): number {
  let kib = 0
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]) !== group) continue
      kib += Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1] ?? 0)
    } catch {
      // The process ended between the listing and the look.
    }
  }
  return kib / 1024
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}
