import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, inject, it, onTestFinished } from 'vitest'
import { createDatabase } from '../support/databases.ts'
import { runCli } from '../support/process.ts'
import { addJob, deploymentFile, installHdbpp, procedure } from './postprocess-deployment.ts'

/** Node has no Unix datagrams; perl is in every Debian (perl-base), and so is `logger` (bsdutils). */
const receiver = `use IO::Socket::UNIX; $| = 1;
  my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die $!;
  print "listening\\n"; while (defined $s->recv(my $d, 65536)) { $d =~ s/\\0$//; print unpack("H*", $d), "\\n"; }`

const isThere = (program: string, ...args: string[]) => {
  try {
    execFileSync(program, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
const hasReceiver = isThere('perl', '-MIO::Socket::UNIX', '-e', '1') && isThere('logger', '--version')

/** A syslog daemon as far as we need one: its socket, and what came so far. */
async function startReceiver() {
  const socket = join(mkdtempSync(join(inject('runDirectory'), 'syslog-')), 'log')
  const child = spawn('perl', ['-e', receiver, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const started = Promise.withResolvers<void>()
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
    if (output.startsWith('listening\n')) started.resolve()
  })
  await started.promise
  const datagrams = () =>
    output
      .split('\n')
      .slice(1, -1)
      .map((hex) => Buffer.from(hex, 'hex').toString())
  return { socket, datagrams }
}

async function deployment() {
  const database = await createDatabase('hdb syslog')
  await installHdbpp(database)
  await procedure(database, 'shouts', `raise exception E'first line\\nsecond <3>line \\x1b[31m %', repeat('ü', 2000);`)
  await addJob(database, 'works')
  await addJob(database, 'shouts')
  return deploymentFile({ accelerator: database.url })
}

describe('--syslog', () => {
  it.skipIf(!hasReceiver)(
    'sends one RFC 3164 datagram for each line to a real socket, and nothing to the terminal',
    async () => {
      const { socket, datagrams } = await startReceiver()
      const file = await deployment()
      const { exitCode, stderr, stdout } = await runCli(['postprocess', '-c', file, '--syslog'], {
        env: { YARDMASTER_SYSLOG_SOCKET: socket },
      })
      expect([exitCode, stderr, stdout]).toEqual([1, '', ''])
      await expect.poll(() => datagrams().length).toBe(3)
      const head = /^<(\d+)>([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d) (hdbpp_postprocessing)\[\d+\]: (.*)$/s
      const read = datagrams().map((datagram) => head.exec(datagram))
      // user.info, user.info, user.err
      expect(read.map((match) => match?.[1])).toEqual(['14', '14', '11'])
      expect(read.map((match) => match?.[6])).toEqual([
        'accelerator: 2 jobs to run.',
        expect.stringMatching(/^accelerator: job 1 \(works\) is done/),
        expect.stringMatching(
          /^ERROR: accelerator: job 2 \(shouts\) failed: \[sql_failed\] first line second <3>line \\u\{1b\}\[31m ü{2000} \(SQLSTATE P0001\)/,
        ),
      ])
    },
  )

  it.skipIf(!hasReceiver)('has what is wrong with the file, and what --debug adds, too', async () => {
    const { socket, datagrams } = await startReceiver()
    const env = { YARDMASTER_SYSLOG_SOCKET: socket }
    const broken = await runCli(['postprocess', '-c', '/nonexistent.conf', '--syslog'], { env })
    expect([broken.exitCode, broken.stderr]).toEqual([1, ''])
    await expect
      .poll(() => datagrams().join('\n'))
      .toMatch(/^<11>.*ERROR: \[hdbpp_file_invalid\] \/nonexistent\.conf cannot be read/)
    const faulty = join(mkdtempSync(join(inject('runDirectory'), 'syslog-')), 'faulty.conf')
    writeFileSync(faulty, 'a: 1\nb: 2\n')
    await runCli(['postprocess', '-c', faulty, '--syslog'], { env })
    await expect
      .poll(() => datagrams().join('\n'))
      .toMatch(/^<11>.* 2 faults; nothing was run\. \| \S+:1: a: found .* \| \S+:2: b: found .* Remedy: /m)
    await runCli(['postprocess', '-c', await deployment(), '--syslog', '--debug'], { env })
    await expect.poll(() => datagrams().join('\n')).toMatch(/^<15>.*: accelerator: call "works"\(1, '\{\}'\)$/m)
  })

  it('without a daemon ends on the terminal: nothing is lost', async () => {
    const file = await deployment()
    const env = { YARDMASTER_SYSLOG_SOCKET: join(inject('runDirectory'), 'no-such-socket') }
    const { exitCode, stderr } = await runCli(['postprocess', '-c', file, '--syslog'], { env })
    expect(exitCode).toBe(1)
    expect(stderr).toContain('ERROR: The syslog daemon took nothing (')
    expect(stderr).toContain('accelerator: job 1 (works) is done')
    const without = await runCli(['postprocess', '-c', file, '--syslog'], { env: { ...env, PATH: '/nonexistent' } })
    expect(without.stderr).toContain('logger of util-linux could not be started')
    expect(without.stderr).toContain('accelerator: job 1 (works) is done')
  })
})
