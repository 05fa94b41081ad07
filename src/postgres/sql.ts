import { type QualifiedName, quoteIdentifier, quoteLiteral, quoteQualified } from './identifier.ts'

/** A statement and its bound values. Made only by the `sql` tag, so that a value can never become part of the text. */
export class Sql {
  readonly strings: readonly string[]
  readonly values: readonly unknown[]

  constructor(strings: readonly string[], values: readonly unknown[]) {
    this.strings = strings
    this.values = values
  }

  /** Text with `$1…` placeholders. */
  get text(): string {
    return this.strings.reduce((text, part, index) => (index === 0 ? part : `${text}$${index}${part}`), '')
  }
}

/**
 * `sql\`select … where name = ${name}\`` binds `name`. A nested `Sql` (from `identifier`, `literal`, `join` or another
 * template) is put in as SQL.
 */
export function sql(template: TemplateStringsArray, ...inputs: unknown[]): Sql {
  const strings: string[] = [template[0] ?? '']
  const values: unknown[] = []
  inputs.forEach((input, index) => {
    const after = template[index + 1] ?? ''
    if (input instanceof Sql) {
      strings[strings.length - 1] += input.strings[0] ?? ''
      input.values.forEach((value, inner) => {
        values.push(value)
        strings.push(input.strings[inner + 1] ?? '')
      })
      strings[strings.length - 1] += after
    } else {
      values.push(input)
      strings.push(after)
    }
  })
  return new Sql(strings, values)
}

/** A name, quoted. */
export function identifier(name: string): Sql {
  return new Sql([quoteIdentifier(name)], [])
}

/** `"schema"."name"`. */
export function relation(name: QualifiedName): Sql {
  return new Sql([quoteQualified(name)], [])
}

/** A text literal, for utility statements that take no parameters. */
export function literal(value: string): Sql {
  return new Sql([quoteLiteral(value)], [])
}

/**
 * SQL that is trusted as it stands: our own constants, catalog output that was checked, or code that its author may run
 * (`condition`, `post_script`). Every use says which of the three it is.
 */
export function trusted(text: string): Sql {
  return new Sql([text], [])
}

/** Joins fragments, by default with a comma. */
export function join(parts: readonly Sql[], separator = ', '): Sql {
  return parts.reduce(
    (all, part, index) => (index === 0 ? part : sql`${all}${trusted(separator)}${part}`),
    new Sql([''], []),
  )
}
