import { Failure } from '../base/failure.ts'
import { parseNameParts, printable, quoteIdentifier } from '../postgres/identifier.ts'
import { literal, type Sql, sql, trusted } from '../postgres/sql.ts'
import type { HdbppJob } from './hdbpp-tables.ts'

/** A name as SQL has it without quotes, or anything within quotes. */
const part = String.raw`\s*(?:[\p{L}_][\p{L}\p{N}_$]*|"(?:[^"]|"")+")\s*`
const plainName = new RegExp(`^${part}(?:\\.${part})?$`, 'u')

/**
 * `CALL name(id, config)`. The arguments are plain literals, as the script had them: a procedure may take the id as integer or
 * bigint, the config as json, jsonb or text. Throws `name_invalid` for what is not one name, schema-qualified or not.
 */
export function callOf(job: HdbppJob): Sql {
  const { job_id: id, config } = job
  // The id is digits, the name quoted: both were looked at just now.
  return sql`call ${trusted(procedureOf(job))}(${trusted(id)}, ${config === null ? trusted('null') : literal(config)})`
}

/** Its procedure's name, in quotes. Throws `name_invalid`. */
export function procedureOf({ job_id: id, proc_name: name }: HdbppJob): string {
  if (name === null || !plainName.test(name) || !/^-?\d+$/.test(id)) throw refused(name)
  return parseNameParts(name.trim()).map(quoteIdentifier).join('.')
}

function refused(name: string | null): Failure {
  const said = name === null ? 'proc_name is NULL' : `proc_name is '${printable(name)}', which is no procedure's name`
  return new Failure('name_invalid', {
    message: `${said}; nothing was called.`,
    remedy:
      'Write the name alone, schema-qualified or not, in quotes where SQL wants them: public.my_procedure, "Odd.Name".',
  })
}
