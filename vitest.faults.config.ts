import { configDefaults, defineConfig } from 'vitest/config'
import { faultSuites } from './test/fault-suites.ts'
import everything from './vitest.config.ts'

export default defineConfig({
  ...everything,
  test: { ...everything.test, include: faultSuites, exclude: configDefaults.exclude },
})
