import type { Group } from './action.ts'

/** `yardmaster demo` */
export const demoGroup: Group = () => undefined
