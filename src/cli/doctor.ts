import { Failure } from '../base/failure.ts'
import type { Control } from '../control/control.ts'
import { connectDatabase, listDatabases } from '../control/databases.ts'
import { type Finding, inspectDatabase } from '../control/inspection.ts'
import { releaseLostWorkers } from '../control/registration.ts'
import { jobsByDatabase, jobTroubles } from '../jobs/job-troubles.ts'
import { checkJobs, listTroubles } from '../monitoring/check.ts'
import { listWebhooks } from '../monitoring/webhooks.ts'
import { longDrained, unseenHosts } from '../placement/hosts.ts'
import { printable } from '../postgres/identifier.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { destinationLabel } from '../replication/definition.ts'
import { findPosition } from '../replication/position.ts'
import { listReplications } from '../replication/store.ts'
import { action, type Group } from './action.ts'
import { type CommandContext, withControl } from './command-context.ts'

/** `yardmaster doctor` */
export const doctorGroup: Group = (program) => {
  program
    .command('doctor')
    .description('what is wrong or unsafe here; exit 1 when something is critical')
    .addHelpText('after', '\nExample:\n  yardmaster doctor --json')
    .action(action(run))
}

async function run(context: CommandContext): Promise<number> {
  return withControl(context, async (control) => {
    await releaseLostWorkers(control)
    const broken = await replicationFindings(context, control)
    const findings = [
      ...(await controlFindings(context, control)),
      ...(await databaseFindings(context, control)),
      ...(await placementFindings(context, control)),
      ...(await jobTroubles(control)),
      ...(await webhookFindings(control)),
      ...broken,
      // What was broken off fails for that reason.
      ...(await jobFindings(control)).filter((one) => !broken.some(({ object }) => object === one.object)),
    ]
    const order = ['CRITICAL', 'WARNING', 'OK']
    findings.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level))
    if (context.terminal.json) context.terminal.document({ findings })
    else {
      context.terminal.table(
        findings,
        [
          { head: 'LEVEL', kind: 'level', value: (row) => row.level },
          { head: 'OBJECT', value: (row) => row.object },
          { head: 'CODE', value: (row) => row.code },
          { head: 'WHAT', value: (row) => `${row.message} ${row.remedy}`.trim() },
        ],
        'Nothing is wrong.',
      )
    }
    return findings.some((finding) => finding.level === 'CRITICAL') ? 1 : 0
  })
}

async function controlFindings(context: CommandContext, control: Control): Promise<Finding[]> {
  const object = 'the control database'
  const { findings } = await inspectDatabase(control.session)
  const embedded = context.options.control === undefined
  return [
    ...findings.filter((finding) => !(embedded && finding.code === 'role_superuser')),
    ...(embedded
      ? [
          {
            code: 'control_embedded',
            level: 'OK' as const,
            object,
            message: `The control database is the embedded one in ${context.dataDirectory}: for evaluation, or for one host.`,
            remedy: 'Name a server of your own with --control or YARDMASTER_CONTROL_URL.',
          },
        ]
      : []),
    ...(control.key.origin === 'YARDMASTER_KEY'
      ? []
      : [
          {
            code: 'key_in_file',
            level: 'OK' as const,
            object,
            message: `Stored passwords are encrypted with the key in ${control.key.origin}.`,
            remedy:
              'Workers on other hosts need the same key: set YARDMASTER_KEY there, and keep a copy of it in a safe place.',
          },
        ]),
  ]
}

async function databaseFindings(context: CommandContext, control: Control): Promise<Finding[]> {
  const databases = await listDatabases(control)
  const jobs = await jobsByDatabase(control)
  const found = await Promise.all(
    databases.map(async ({ name }): Promise<Finding[]> => {
      try {
        const session = await connectDatabase(control, name, context.environment, {
          side: 'database',
          purpose: 'doctor',
        })
        return (await inspectDatabase(session).finally(() => session.end())).findings.slice()
      } catch (error) {
        return [asFinding(toFailure(error, { side: 'database', object: name }), name, jobs.get(name) ?? [])]
      }
    }),
  )
  return found.flat()
}

/** `jobs`: what does not run meanwhile. */
function asFinding(failure: Failure, object: string, jobs: readonly string[]): Finding {
  const more = jobs.length > 3 ? ` and ${jobs.length - 3} more` : ''
  const waiting = jobs.length > 0 ? ` Jobs that run there: ${jobs.slice(0, 3).join(', ')}${more}.` : ''
  return {
    code: failure.code,
    level: 'CRITICAL',
    object,
    message: `${failure.message}${waiting}`,
    remedy: failure.remedy,
  }
}

/** Days after which a pause may have been forgotten. */
const longPause = 1

/** What `check` alerts of, and what is too early for it: a single run that failed, a pause that goes on and on. */
async function jobFindings(control: Control): Promise<Finding[]> {
  const alerts = (await checkJobs(control, null)).filter((alert) => alert.alert_code > 1)
  const alerted = new Set(alerts.map((alert) => alert.job_name))
  const troubled = (await listTroubles(control, longPause)).filter(({ name }) => !alerted.has(name))
  return [
    ...alerts.map((alert) => ({
      code: alert.alert_status.toLowerCase(),
      level: alert.alert_code === 3 ? ('CRITICAL' as const) : ('WARNING' as const),
      object: alert.job_name,
      message: `${alert.alert_text.replace(/[.]$/, '')}.`,
      // Alerts of placement, as of workers, say themselves what to do.
      remedy:
        /^[A-Z]/.test(alert.alert_status) && alert.job_name !== 'workers'
          ? 'yardmaster run list --status CRITICAL, run show RUN say more.'
          : '',
    })),
    ...troubled.map(({ name, kind, text, job }) => ({
      code: kind,
      level: 'WARNING' as const,
      object: name,
      message: text,
      remedy:
        kind === 'paused_long'
          ? `Go on with: yardmaster replication resume ${name}`
          : `Try again: yardmaster ${job === null ? `replication refresh ${name}` : `job run ${job}`}`,
    })),
  ]
}

/** Webhooks that have stopped to be reached: nobody hears of alerts there. */
async function webhookFindings(control: Control): Promise<Finding[]> {
  const webhooks = await listWebhooks(control)
  return webhooks
    .filter(({ last_status: status }) => status === 'given_up')
    .map(({ id, url, last_outcome: outcome, last_attempts: attempts, given_up: count }) => ({
      code: 'webhook_given_up',
      level: 'WARNING' as const,
      object: `webhook ${id}`,
      message: `The last message to ${printable(url)} was given up after ${attempts} attempts: ${printable(outcome ?? 'no answer')}; given up so far: ${count}.`,
      remedy: `Mend what is there; or take it away: yardmaster alert webhook remove ${id}`,
    }))
}

/** Days after which a drain may have been forgotten. */
const longDrain = 1

/** Names in bindings that are likely mistyped, and hosts that were drained and never taken back. */
async function placementFindings({ terminal }: CommandContext, control: Control): Promise<Finding[]> {
  const unseen = await unseenHosts(control)
  const drained = await longDrained(control, longDrain)
  return [
    ...unseen.map(({ host, bindings, near }) => ({
      code: 'host_unseen',
      level: 'WARNING' as const,
      object: `host ${host}`,
      message: `${bindings === 1 ? '1 binding names' : `${bindings} bindings name`} it, and no worker was seen on it in the last week${near === null ? '' : `; there is ${near}`}.`,
      remedy: `If it is right: yardmaster host set ${host}. If not: yardmaster binding list, binding set SITE ${host} none.`,
    })),
    ...drained.map(({ host, drained_at: since, drained_by: by }) => ({
      code: 'drained_long',
      level: 'WARNING' as const,
      object: `host ${host}`,
      message: `It is drained since ${terminal.time(since)} by ${by}: it takes nothing.`,
      remedy: `Take it back: yardmaster host undrain ${host}; or forget it: yardmaster host remove ${host}`,
    })),
  ]
}

async function replicationFindings(context: CommandContext, control: Control): Promise<Finding[]> {
  const found: Finding[] = []
  for (const replication of await listReplications(control)) {
    const object = destinationLabel(replication)
    if (replication.status === 'setting_up' || replication.status === 'removing') {
      const what = replication.status === 'setting_up' ? 'Its set-up' : 'Its removal'
      found.push({
        code: 'replication_broken_off',
        level: 'CRITICAL',
        object,
        message: `${what} is not finished.`,
        remedy: `yardmaster replication ${replication.status === 'setting_up' ? 'refresh' : 'remove'} '${object}' goes on with it, if no run of it is under way.`,
      })
      continue
    }
    try {
      const session = await connectDatabase(control, replication.destinationDatabase, context.environment, {
        side: 'destination',
        purpose: 'doctor',
      })
      const position = await findPosition(session, replication.id).finally(() => session.end())
      if (!position)
        found.push({
          code: 'position_missing',
          level: 'CRITICAL',
          object,
          message: 'The destination knows nothing of it: it was restored, or made anew.',
          remedy: `yardmaster replication resync '${object}'`,
        })
      else if (position.controlId !== control.id)
        found.push({
          code: 'destination_taken',
          level: 'CRITICAL',
          object,
          message: `Another control database drives it: ${position.controlId}.`,
          remedy: `yardmaster replication resync '${object}' --take-over`,
        })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
    }
  }
  return found
}
