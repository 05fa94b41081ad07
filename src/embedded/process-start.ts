import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/**
 * When the living process `pid` started, in a form that only serves for comparing (no `-` in it); undefined when there is
 * no such process, or only its zombie. Together with the id this names one process for ever: ids are used again, also
 * across a restart of the machine, hence the boot id.
 */
export function processStart(pid: number): string | undefined {
  return process.platform === 'linux' ? linuxStart(pid) : psStart(pid)
}

function linuxStart(pid: number): string | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // proc_pid_stat(5): the name, in parentheses, may hold anything; state is field 3, start time in ticks field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8)
  return `${fields[19]}.${boot}`
}

function psStart(pid: number): string | undefined {
  const { status, stdout } = spawnSync('ps', ['-o', 'lstart=,state=', '-p', String(pid)], { encoding: 'utf8' })
  const text = stdout?.trim() ?? ''
  if (status !== 0 || text === '' || text.includes(' Z')) return undefined
  return text.replace(/\s+\S+$/, '').replaceAll(/\W+/g, '.')
}
