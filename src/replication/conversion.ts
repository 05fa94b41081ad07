import type { Column } from '../postgres/catalog.ts'
import type { TypeCatalog } from '../postgres/type-catalog.ts'

/** How one column's values get from the source's type into the destination's. */
export type Conversion = 'binary' | 'text' | 'refused'

export interface TypedColumn {
  readonly column: Pick<Column, 'typeOid' | 'typmod'>
  readonly types: TypeCatalog
}

/** Widening conversions in which the text form of every value reads back as an equal value. */
const widening: Readonly<Record<string, readonly string[]>> = {
  int2: ['int4', 'int8', 'numeric'],
  int4: ['int8', 'numeric'],
  int8: ['numeric'],
  oid: ['int8', 'numeric'],
  varchar: ['text'],
  bpchar: ['text'],
  name: ['text'],
  cidr: ['inet'],
  char: ['text'],
}

/**
 * Binary only where both types are proven the same, recursively; text where the text form of every value is read back as
 * an equal value; refused where it might not be. Binary COPY between different types corrupts without an error, and text
 * COPY drops a time zone, rounds a numeric or cuts a fraction of a second just as silently: so there is no "try it".
 */
export function conversionOf(source: TypedColumn, destination: TypedColumn): Conversion {
  const from = source.column
  const to = destination.column
  const same = source.types.signature(from.typeOid) === destination.types.signature(to.typeOid)
  if (same) {
    if (!typmodWidens(source, destination)) return 'refused'
    const binary = source.types.isBinarySafe(from.typeOid) && destination.types.isBinarySafe(to.typeOid)
    return binary && from.typmod === to.typmod ? 'binary' : 'text'
  }
  const fromBase = source.types.baseOf(from.typeOid)
  const toBase = destination.types.baseOf(to.typeOid)
  const stripped = fromBase.oid !== from.typeOid || toBase.oid !== to.typeOid
  if (stripped) {
    return conversionOf(
      { types: source.types, column: { typeOid: fromBase.oid, typmod: mergeTypmod(from.typmod, fromBase.typmod) } },
      { types: destination.types, column: { typeOid: toBase.oid, typmod: mergeTypmod(to.typmod, toBase.typmod) } },
    ) === 'refused'
      ? 'refused'
      : 'text'
  }
  if (isPlainText(destination)) return 'text'
  const wider = source.types.isBuiltIn(from.typeOid) ? widening[source.types.name(from.typeOid)] : undefined
  const fits =
    wider?.includes(destination.types.name(to.typeOid)) && destination.types.isBuiltIn(to.typeOid) && to.typmod === -1
  return fits ? 'text' : 'refused'
}

/** `text` and `varchar` without a length take the text form of anything. */
function isPlainText({ column, types }: TypedColumn): boolean {
  return (
    types.isBuiltIn(column.typeOid) && ['text', 'varchar'].includes(types.name(column.typeOid)) && column.typmod === -1
  )
}

function mergeTypmod(own: number, base: number): number {
  return own === -1 ? base : own
}

/** Whether every value with the source's modifier fits the destination's without being cut, padded or rounded. */
function typmodWidens(source: TypedColumn, destination: TypedColumn): boolean {
  const from = source.column.typmod
  const to = destination.column.typmod
  if (from === to || to === -1) return true
  const type = source.types.name(source.types.element(source.column.typeOid) || source.column.typeOid)
  if (!source.types.isBuiltIn(source.column.typeOid)) return false
  switch (type) {
    case 'varchar':
    case 'varbit':
      return from !== -1 && to >= from
    case 'numeric': {
      if (from === -1) return false
      const [a, b] = [numericParts(from), numericParts(to)]
      return b.scale >= a.scale && b.precision - b.scale >= a.precision - a.scale
    }
    case 'timestamp':
    case 'timestamptz':
    case 'time':
    case 'timetz':
      return to >= 6 || (from !== -1 && to >= from)
    default:
      return false
  }
}

/** Source: `numeric.c`, make_numeric_typmod: precision in the high 16 bits, scale in the low 11, both behind VARHDRSZ. */
function numericParts(typmod: number): { precision: number; scale: number } {
  const packed = typmod - 4
  return { precision: (packed >> 16) & 0xffff, scale: ((packed & 0x7ff) ^ 1024) - 1024 }
}
