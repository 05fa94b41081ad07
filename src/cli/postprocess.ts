import { readFileSync } from 'node:fs'
import { Failure } from '../base/failure.ts'
import { type HdbppDeployment, loadHdbppFile } from '../compat/hdbpp-file.ts'
import { type HdbppLevel, type HdbppLog, syslogLog, terminalLog } from '../compat/hdbpp-log.ts'
import { type HdbppPassResult, type HdbppPlace, initHdbpp, runHdbpp } from '../compat/hdbpp-pass.ts'
import { toFailure } from '../postgres/sqlstate.ts'
import { action, type Group } from './action.ts'
import type { CommandContext } from './command-context.ts'

const standardFile = '/etc/hdb/hdbpp_postprocessing.conf'

interface PostprocessFlags {
  readonly config: string
  readonly init?: boolean
  readonly validate?: boolean
  readonly syslog?: boolean
  readonly debug?: boolean
  readonly version?: boolean
}

/** `yardmaster postprocess` */
export const postprocessGroup: Group = (program) => {
  program
    .command('postprocess')
    .description(
      'what hdbpp_postprocessing.py did, for cron: call the jobs of each database in a file, once, and count them',
    )
    .option('-c, --config <file>', 'YAML, a root key for each database', standardFile)
    .option('--init', 'only make the two tables, in each database where they are absent')
    .option('--validate', 'only check the file')
    .option('--syslog', 'log to syslog, under the tag hdbpp_postprocessing')
    .option('-d, --debug', 'log what is called as well')
    .option('-v, --version', 'print the version')
    .addHelpText('after', `\nExample:\n  yardmaster postprocess -c ${standardFile} --syslog`)
    .action(action(postprocess))
}

async function postprocess(context: CommandContext, flags: PostprocessFlags): Promise<number> {
  if (flags.version) return printVersion(context)
  if (flags.init && flags.validate) {
    throw new Failure('wrong_usage', {
      message: '--init and --validate cannot both be given: --validate connects to no database.',
      object: '--init',
      remedy: 'Give one of them.',
    })
  }
  const log = openLog(context, flags)
  try {
    return await workOff(context, flags, log)
  } catch (error) {
    // Nobody reads a terminal where syslog was asked for.
    if (!flags.syslog || !(error instanceof Failure)) throw error
    log.say('error', `[${error.code}] ${error.message} Remedy: ${error.remedy}`)
    if (context.terminal.json) context.terminal.document({ error })
    return 1
  } finally {
    await log.close()
  }
}

async function workOff(context: CommandContext, flags: PostprocessFlags, log: HdbppLog): Promise<number> {
  const { terminal, signal } = context
  const { deployments, notes } = await loadHdbppFile(flags.config)
  for (const note of notes) log.say('warn', note)
  const names = deployments.map(({ name }) => name)
  if (flags.validate) {
    log.say(
      'info',
      `${flags.config}: ${names.length === 1 ? 'one deployment' : `${names.length} deployments`}, no fault.`,
    )
    if (terminal.json) terminal.document({ valid: true, deployments: names })
    return 0
  }
  const place: HdbppPlace = { log, signal, passwordFile: context.environment('PGPASSFILE') || undefined }
  const results: HdbppPassResult[] = []
  for (const deployment of deployments) {
    if (signal.aborted) break
    results.push(flags.init ? await init(deployment, place) : await runHdbpp(deployment, place))
  }
  if (terminal.json) terminal.document({ deployments: results })
  const isGood = ({ error, jobs }: HdbppPassResult) => error === null && jobs.every((job) => job.ok)
  return results.length === deployments.length && results.every(isGood) ? 0 : 1
}

async function init(deployment: HdbppDeployment, place: HdbppPlace): Promise<HdbppPassResult> {
  const { name } = deployment
  try {
    for (const said of await initHdbpp(deployment, place)) place.log.say('info', `${name}: ${said}.`)
    return { deployment: name, jobs: [], error: null }
  } catch (error) {
    const failure = toFailure(error, { side: 'database', object: name })
    place.log.say('error', `${name}: [${failure.code}] ${failure.message} Remedy: ${failure.remedy}`)
    return { deployment: name, jobs: [], error: failure }
  }
}

function openLog({ options, environment, err }: CommandContext, flags: PostprocessFlags): HdbppLog {
  const level: HdbppLevel | 'silent' = flags.debug ? 'debug' : options.logLevel
  const how = { level, write: (text: string) => void err.write(text) }
  return flags.syslog ? syslogLog(how, environment('YARDMASTER_SYSLOG_SOCKET') || '/dev/log') : terminalLog(how)
}

function printVersion({ terminal }: CommandContext): 0 {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  if (terminal.json) terminal.document({ version })
  else terminal.line(version)
  return 0
}
