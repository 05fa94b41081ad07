import { describe, expect, test } from 'vitest'
import { errorRegistry } from '../base/error-registry.ts'
import { Failure } from '../base/failure.ts'
import { isConnectionLoss, ProtocolViolation, type Side, toFailure } from './sqlstate.ts'

const sides: readonly Side[] = ['source', 'destination', 'control', 'database']
const fromServer = (code: string, more: object = {}) =>
  Object.assign(new Error('said'), { severity: 'ERROR', code, ...more })
const fromSocket = (code: string) => Object.assign(new Error(`connect ${code}`), { code })

describe('an error of a server', () => {
  test.each([
    ['08000', 'unreachable', true],
    ['08006', 'unreachable', true],
    ['08P01', 'protocol_violated', false],
    ['28000', 'authentication_failed', false],
    ['28P01', 'authentication_failed', false],
    ['3D000', 'database_missing', false],
    ['40001', 'sql_failed', true],
    ['40P01', 'sql_failed', true],
    ['40003', 'sql_failed', false],
    ['42501', 'permission_denied', false],
    ['42P01', 'sql_failed', false],
    ['53100', 'disk_full', true],
    ['53200', 'sql_failed', false],
    ['53300', 'too_many_connections', true],
    ['55P03', 'lock_timeout', true],
    ['55006', 'sql_failed', false],
    ['57014', 'cancelled', false],
    ['57P01', 'unreachable', true],
    ['57P02', 'unreachable', true],
    ['57P03', 'unreachable', true],
    ['57P04', 'sql_failed', false],
    ['57P05', 'unreachable', true],
    ['25P03', 'unreachable', true],
    ['25006', 'sql_failed', false],
    ['XX000', 'sql_failed', false],
    ['YM001', 'sql_failed', false],
    ['YM005', 'site_stranded', false],
    ['YM006', 'host_forbidden', false],
    ['', 'sql_failed', false],
    ['__proto__', 'sql_failed', false],
    ['constructor', 'sql_failed', false],
  ])('%s becomes %s, retryable: %s', (sqlstate, code, retryable) => {
    for (const side of sides) {
      const failure = toFailure(fromServer(sqlstate), { side, object: 'crm' })
      expect(failure.code).toBe(code === 'unreachable' ? `${side}_unreachable` : code)
      expect(failure).toMatchObject({ retryable, sqlstate, object: 'crm' })
      // What our own functions raise is said as it is.
      expect(failure.message.includes(`(SQLSTATE ${sqlstate})`)).toBe(!sqlstate.startsWith('YM'))
      expect(isConnectionLoss(failure)).toBe(code === 'unreachable' || code === 'protocol_violated')
    }
  })

  test('says detail and place, and the hint only where we have no remedy of our own', () => {
    const more = { detail: 'Key (id)=(1) exists.', hint: 'Try another.', where: 'COPY t, line 3\nSQL statement' }
    const plain = toFailure(fromServer('23505', more), { side: 'source' })
    expect(plain.message).toBe('said (SQLSTATE 23505); Key (id)=(1) exists.; COPY t, line 3')
    expect(plain.remedy).toBe('Try another.')
    expect(toFailure(fromServer('42501', more), { side: 'source' }).remedy).toContain('database prepare')
  })

  test('is shown on one line, without control characters and passwords', () => {
    const said = 'first\n  second\u001b[2J\u009b31m\u202e postgresql://ym:secret@h/d'
    const error = Object.assign(new Error(said), { severity: 'ERROR', code: 'P0001', hint: 'a\u0007b' })
    const failure = toFailure(error, { side: 'source' })
    expect(failure.message).toBe('first second\\u{1b}[2J\\u{9b}31m\\u{202e} postgresql://ym:…@h/d (SQLSTATE P0001)')
    expect(failure.remedy).toBe('a\\u{7}b')
  })
})

describe('an error of the socket or the driver', () => {
  test.each([
    'ECONNREFUSED',
    'ECONNRESET',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'ENOENT',
    'ENOTFOUND',
    'EAI_AGAIN',
    'EPIPE',
    'ETIMEDOUT',
  ])('%s is a server that is away', (code) => {
    expect(toFailure(fromSocket(code), { side: 'database' })).toMatchObject({
      code: 'database_unreachable',
      retryable: true,
      sqlstate: undefined,
    })
  })

  test.each([
    ['Connection terminated unexpectedly', 'source_unreachable'],
    ['timeout expired', 'source_unreachable'],
    ['Client has encountered a connection error and is not queryable', 'source_unreachable'],
    ['The server does not support SSL connections', 'tls_failed'],
    ['self-signed certificate', 'tls_failed'],
    ["Hostname/IP does not match certificate's altnames", 'tls_failed'],
    ['SASL: SCRAM-SERVER-FIRST-MESSAGE: iteration count 5 exceeds scramMaxIterations of 4', 'authentication_failed'],
    ['Unknown authenticationOk message type 7', 'authentication_failed'],
    ['Received unexpected dataRow message from backend.', 'protocol_violated'],
    ['received invalid response: 7f', 'protocol_violated'],
    ['x is not a function', 'internal_error'],
  ])('%s becomes %s', (message, code) => {
    expect(toFailure(new Error(message), { side: 'source' }).code).toBe(code)
  })

  test('names each address of a host that has several', () => {
    const error = Object.assign(new AggregateError([fromSocket('ECONNREFUSED'), new Error('second')]), {
      code: 'ECONNREFUSED',
    })
    expect(toFailure(error, { side: 'control' }).message).toBe('connect ECONNREFUSED; second')
  })

  test('of our own making keeps its code', () => {
    expect(toFailure(new ProtocolViolation('x'), { side: 'source' }).code).toBe('protocol_violated')
    const own = new Failure('disk_full', { message: 'x' })
    expect(toFailure(own, { side: 'source' })).toBe(own)
    expect(toFailure(undefined, { side: 'source' }).code).toBe('internal_error')
  })
})

describe('what a role may not, or whose password is wrong', () => {
  const remedy = (code: string, side: Side) => toFailure(fromServer(code), { side }).remedy
  test.each([
    ['42501', 'permission_denied', 'grant_use'],
    ['28P01', 'authentication_failed', '--control'],
  ] as const)('%s in the control database has a remedy there', (code, name, words) => {
    expect(remedy(code, 'control')).toContain(words)
    expect(remedy(code, 'source')).toBe(errorRegistry[name].remedy)
  })
})
