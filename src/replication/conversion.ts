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
  cidr: ['inet'],
}

/**
 * Binary only where both types are proven the same, recursively; text where the text form of every value is read back as
 * an equal value; refused where it might not be. Binary COPY between different types corrupts without an error, and text
 * COPY drops a time zone, rounds a numeric or cuts a fraction of a second just as silently: so there is no "try it".
 */
export function conversionOf(source: TypedColumn, destination: TypedColumn): Conversion {
  const [from, to] = [source.column, destination.column]
  if (source.types.signature(from.typeOid) === destination.types.signature(to.typeOid)) {
    if (!typmodWidens(source, destination)) return 'refused'
    return from.typmod === to.typmod && sameInBinary(source, destination) ? 'binary' : 'text'
  }
  const [fromBase, toBase] = [plainTyped(source), plainTyped(destination)]
  if (fromBase !== source || toBase !== destination) {
    return conversionOf(fromBase, toBase) === 'refused' ? 'refused' : 'text'
  }
  if (isPlainText(destination)) return 'text'
  return widens(source, destination) || hasLabels(source, destination) || elementsFit(source, destination)
    ? 'text'
    : 'refused'
}

function sameInBinary(source: TypedColumn, destination: TypedColumn): boolean {
  const [from, to] = [source.column.typeOid, destination.column.typeOid]
  return (
    source.types.signature(from, true) === destination.types.signature(to, true) &&
    source.types.isBinarySafe(from) &&
    destination.types.isBinarySafe(to)
  )
}

/** A domain's column as one of the type below, with the modifier that is in force; any other as it is. */
function plainTyped(typed: TypedColumn): TypedColumn {
  const { column, types } = typed
  const base = types.baseOf(column.typeOid)
  if (base.oid === column.typeOid) return typed
  return { types, column: { typeOid: base.oid, typmod: column.typmod === -1 ? base.typmod : column.typmod } }
}

function widens({ column: from, types }: TypedColumn, { column: to, types: there }: TypedColumn): boolean {
  if (!types.isBuiltIn(from.typeOid) || !there.isBuiltIn(to.typeOid) || to.typmod !== -1) return false
  return widening[types.name(from.typeOid)]?.includes(there.name(to.typeOid)) ?? false
}

/** An enum whose labels the other one has all, in whatever order: a label that was added there first stops nothing. */
function hasLabels(source: TypedColumn, destination: TypedColumn): boolean {
  const wanted = source.types.row(source.column.typeOid).labels
  const labels = destination.types.row(destination.column.typeOid).labels
  return wanted !== null && labels !== null && wanted.every((label) => labels.includes(label))
}

/** Arrays, when their elements fit and both write the same character between them (`box[]` writes another). */
function elementsFit(source: TypedColumn, destination: TypedColumn): boolean {
  const from = source.types.row(source.column.typeOid)
  const to = destination.types.row(destination.column.typeOid)
  if (from.element === 0 || to.element === 0 || from.delimiter !== to.delimiter) return false
  const elements = [
    { types: source.types, column: { ...source.column, typeOid: from.element } },
    { types: destination.types, column: { ...destination.column, typeOid: to.element } },
  ] as const
  return conversionOf(...elements) !== 'refused'
}

/** `text` and `varchar` without a length take the text form of anything. */
function isPlainText({ column, types }: TypedColumn): boolean {
  return (
    types.isBuiltIn(column.typeOid) && ['text', 'varchar'].includes(types.name(column.typeOid)) && column.typmod === -1
  )
}

/** Whether every value with the source's modifier fits the destination's without being cut, padded or rounded. */
function typmodWidens(source: TypedColumn, destination: TypedColumn): boolean {
  const from = source.column.typmod
  const to = destination.column.typmod
  if (from === to || to === -1) return true
  const { element } = source.types.row(source.column.typeOid)
  if (!source.types.isBuiltIn(source.column.typeOid)) return false
  const type = source.types.name(element || source.column.typeOid)
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
