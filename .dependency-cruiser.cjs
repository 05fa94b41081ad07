/**
 * Imports go one way (ARCHITECTURE.md): a room may import only what stands before it in this list.
 * Rooms (placement, jobs, replication) and their neighbours (monitoring, compat) never import each other.
 */
const below = {
  base: [],
  config: ['base'],
  postgres: ['base'],
  embedded: ['base', 'postgres'],
  control: ['base', 'config', 'postgres'],
  placement: ['base', 'config', 'postgres', 'control'],
  jobs: ['base', 'config', 'postgres', 'control'],
  replication: ['base', 'config', 'postgres', 'control'],
  monitoring: ['base', 'config', 'postgres', 'control'],
  compat: ['base', 'config', 'postgres', 'control'],
  worker: ['base', 'config', 'postgres', 'embedded', 'control', 'placement', 'jobs', 'replication', 'monitoring', 'compat'],
}
const all = [...Object.keys(below), 'http', 'demo', 'cli']
const allowed = {
  ...below,
  http: Object.keys(below),
  demo: [...Object.keys(below), 'http'],
  cli: [...Object.keys(below), 'http', 'demo'],
}

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    ...all.map((room) => ({
      name: `${room}-imports-only-what-is-below-it`,
      severity: 'error',
      from: { path: `^src/${room}/` },
      to: { path: '^src/', pathNot: [`^src/${room}/`, ...allowed[room].map((name) => `^src/${name}/`)] },
    })),
    {
      name: 'environment-only-at-the-door',
      comment: 'process.env and process.exit belong to entry points; libraries that read them do not belong in src/base',
      severity: 'error',
      from: { path: '^src/base/' },
      to: { dependencyTypes: ['npm'] },
    },
  ],
  options: { tsConfig: { fileName: 'tsconfig.json' }, tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' } },
}
