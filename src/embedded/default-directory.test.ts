import { expect, test } from 'vitest'
import { defaultDirectory } from './default-directory.ts'

test.each([
  [{}, 0, '/root', '/var/lib/yardmaster'],
  [{ XDG_DATA_HOME: '/data' }, 0, '/root', '/var/lib/yardmaster'],
  [{}, 1000, '/home/ann', '/home/ann/.local/share/yardmaster'],
  [{ XDG_DATA_HOME: '/data/ann' }, 1000, '/home/ann', '/data/ann/yardmaster'],
  [{ XDG_DATA_HOME: 'relative' }, 1000, '/home/ann', '/home/ann/.local/share/yardmaster'],
  [{ XDG_DATA_HOME: '' }, 1000, '/home/ann', '/home/ann/.local/share/yardmaster'],
])('%j as %i: %s', (environment, uid, home, directory) => {
  expect(defaultDirectory(environment, uid, home)).toBe(directory)
})
