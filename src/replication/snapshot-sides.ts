import type { Relation } from '../postgres/catalog.ts'
import { derivedName, type QualifiedName, quoteIdentifier, quoteQualified } from '../postgres/identifier.ts'
import type { PlannedColumn } from './column-plan.ts'
import type { Replication } from './definition.ts'

export type Side = 1 | 2

/** The table behind a snapshot's view: `<name>_snap1` or `<name>_snap2`, shortened with a hash past 63 bytes. */
export function sideTable(destination: QualifiedName, side: Side): QualifiedName {
  return { schema: destination.schema, name: derivedName(destination.name, `_snap${side}`) }
}

/** All relations of a replication in its destination: what no other replication may use. */
export function occupiedRelations(replication: Pick<Replication, 'type' | 'destination'>): QualifiedName[] {
  const { type, destination } = replication
  return type === 'snapshot' ? [destination, sideTable(destination, 1), sideTable(destination, 2)] : [destination]
}

export function otherSide(side: Side | undefined): Side {
  return side === 1 ? 2 : 1
}

/** `SELECT` of the view over one side. */
export function viewQuery(side: QualifiedName, columns: readonly PlannedColumn[]): string {
  return `SELECT ${columns.map((column) => quoteIdentifier(column.name)).join(', ')} FROM ${quoteQualified(side)}`
}

/** What a new structure means for the view that readers use. */
export interface ViewChange {
  /** CREATE OR REPLACE does: the old columns stay as they are, new ones come behind. */
  readonly replaceable: boolean
  /** Old columns that go, or whose type changes. */
  readonly vanishing: readonly string[]
}

export function viewChange(view: Relation, columns: readonly PlannedColumn[]): ViewChange {
  const same = (name: string, typeOid: number, typmod: number, collation: QualifiedName | null) =>
    columns.some(
      (column) =>
        column.name === name &&
        column.typeOid === typeOid &&
        column.source.typmod === typmod &&
        JSON.stringify(column.collation) === JSON.stringify(collation),
    )
  const vanishing = view.columns.filter((column) => !same(column.name, column.typeOid, column.typmod, column.collation))
  const inOrder = view.columns.every((column, index) => columns[index]?.name === column.name)
  return { replaceable: vanishing.length === 0 && inOrder, vanishing: vanishing.map((column) => column.name) }
}
