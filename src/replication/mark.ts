/** How far a copy goes: every row whose control value is below `value` is there; with `inclusive`, equal ones too. */
export interface Mark {
  /** As the source prints it in the control column's type, with our fixed settings (ISO, UTC). Never a JavaScript number. */
  readonly value: string
  readonly inclusive: boolean
}
