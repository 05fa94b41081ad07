import { configDefaults, defineConfig } from 'vitest/config'
import everything, { faultSuites } from './vitest.config.ts'

export default defineConfig({
  ...everything,
  test: { ...everything.test, include: faultSuites, exclude: configDefaults.exclude },
})
