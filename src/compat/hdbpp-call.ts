import { Failure } from '../base/failure.ts'
import { parseNameParts, printable } from '../postgres/identifier.ts'
import { identifier, join, literal, type Sql, sql, trusted } from '../postgres/sql.ts'
import type { HdbppJob } from './hdbpp-tables.ts'

/** A name as SQL has it without quotes, or anything within quotes. */
const part = String.raw`\s*(?:[\p{L}_][\p{L}\p{N}_$]*|"(?:[^"]|"")+")\s*`
const plainName = new RegExp(`^${part}(?:\\.${part})?$`, 'u')

/**
 * `CALL name(id, config)`. The arguments are plain literals, as the script had them: a procedure may take the id as integer or
 * bigint, the config as json, jsonb or text. Throws `name_invalid` for what is not one name, schema-qualified or not.
 */
export function callOf({ job_id: id, proc_name: name, config }: HdbppJob): Sql {
  if (name === null || !plainName.test(name) || !/^-?\d+$/.test(id)) throw refused(name)
  const procedure = join(parseNameParts(name.trim()).map(identifier), '.')
  // The id is digits, which was looked at just now.
  return sql`call ${procedure}(${trusted(id)}, ${config === null ? trusted('null') : literal(config)})`
}

function refused(name: string | null): Failure {
  const said = name === null ? 'proc_name is NULL' : `proc_name is '${printable(name)}', which is no procedure's name`
  return new Failure('name_invalid', {
    message: `${said}; nothing was called.`,
    remedy:
      'Write the name alone, schema-qualified or not, in quotes where SQL wants them: public.my_procedure, "Odd.Name".',
  })
}
