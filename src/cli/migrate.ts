import { hostname, userInfo } from 'node:os'
import { join } from 'node:path'
import { type MigrationPlan, migrate, planMigration } from '../control/migrate.ts'
import { embeddedControlDatabase } from '../embedded/default-directory.ts'
import { joinEmbedded } from '../embedded/join-embedded.ts'
import { connect } from '../postgres/connect.ts'
import { parseConnectionUrl } from '../postgres/connection-url.ts'
import { action, type Group } from './action.ts'
import type { CommandContext } from './command-context.ts'

/** `yardmaster migrate` */
export const migrateGroup: Group = (program) => {
  program
    .command('migrate')
    .option('--dry-run', 'show what would be done, and change nothing')
    .description('bring the control schema up to date (every command does, unless a migration is breaking)')
    .addHelpText('after', '\nExample:\n  yardmaster migrate --dry-run')
    .action(action(run))
}

async function run(context: CommandContext, flags: { dryRun?: boolean }): Promise<number> {
  const { options, dataDirectory, terminal } = context
  const server =
    options.control === undefined
      ? await joinEmbedded({ directory: dataDirectory, databases: [embeddedControlDatabase] }, context.signal)
      : undefined
  try {
    const parts = parseConnectionUrl(options.control ?? server?.url(embeddedControlDatabase) ?? '')
    const session = await connect(parts, {
      side: 'control',
      purpose: `migrate by ${userInfo().username}@${hostname()}`,
      object: 'the control database',
      passwordFile: context.environment('PGPASSFILE') || undefined,
    })
    try {
      const plan = flags.dryRun ? await planMigration(session) : await migrate(session)
      if (terminal.json)
        terminal.document({
          from: plan.current,
          applied: flags.dryRun ? [] : names(plan),
          pending: flags.dryRun ? names(plan) : [],
          functions_replaced: plan.api,
        })
      else if (plan.pending.length === 0 && !plan.api) terminal.line('No changes.')
      else {
        for (const name of names(plan)) terminal.line(`+ migration ${name}`)
        if (plan.api) terminal.line('~ functions and views')
        terminal.line(
          flags.dryRun
            ? `Plan: ${plan.pending.length} migrations to apply.`
            : `${plan.pending.length} migrations applied.`,
        )
      }
      return 0
    } finally {
      await session.end()
    }
  } finally {
    await server?.leave()
  }
}

function names(plan: MigrationPlan): string[] {
  return plan.pending.map((migration) =>
    join(String(migration.number).padStart(6, '0'), migration.name).replace('/', '_'),
  )
}
