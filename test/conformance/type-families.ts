/** A column and the values that it is tried with: literals of its type, or SQL in `{ sql }`. NULL is always tried too. */
export interface FamilyColumn {
  readonly type: string
  readonly values: readonly (string | { sql: string })[]
}

const column = (type: string, ...values: FamilyColumn['values']): FamilyColumn => ({ type, values })

const words = ['', ' ', '\\', '\\.', '\\N', 'NULL', 'null', '"', "'", '{}', '{,}', 'a\tb\nc\rd\ve\ff', '\u0001\u007f']
const worldWide = ['äöüß €', '日本語', '😀👩‍👩‍👧', 'e\u0301', '\u202eabc', '\ufeff', '\u{10ffff}', 'İıſ']
const large = (unit: string) => ({ sql: `repeat('${unit}', 5 * 1024 * 1024 / octet_length('${unit}'))` })

/** Types whose binary form is the same on every server. */
export const binaryFamily: readonly FamilyColumn[] = [
  column('boolean', 'true', 'false'),
  column('smallint', '-32768', '32767', '0'),
  column('integer', '-2147483648', '2147483647'),
  column('bigint', '-9223372036854775808', '9223372036854775807'),
  column('numeric', 'NaN', 'Infinity', '-Infinity', '0.000', '-0', '1e1000', '1e-1000', '-12345678901234567890.0987'),
  column('numeric(10,4)', '999999.9999', '-0.0001', 'NaN', '1.5'),
  column('numeric(5)', '99999', '0'),
  column('real', 'NaN', 'Infinity', '-Infinity', '-0', '1e-45', '3.4028235e38', '0.1', '16777217'),
  column('double precision', 'NaN', 'Infinity', '-Infinity', '-0', '5e-324', '1.7976931348623157e308', '0.1', '1e15'),
  column('money', '-92233720368547758.08', '92233720368547758.07', '0.01'),
  column('text', ...words, ...worldWide, large('ü\\t')),
  column('varchar', ...words, ...worldWide),
  column('varchar(12)', 'ab  ', '', 'äöüß€😀日本語xyz'),
  column('char(5)', 'ab', '', '     ', 'äöüß€', '\\.'),
  column('bpchar', 'ab  ', ''),
  column('char', 'x', '', ' '),
  column('"char"', 'a', '', '\\', '\t'),
  column('name', 'x', '', { sql: "repeat('ü', 31)" }),
  column('bytea', '', '\\x', '\\x00ff5c2e0a', { sql: "decode(repeat('00ff5c0a09', 1024 * 1024), 'hex')" }),
  column('date', 'infinity', '-infinity', '4713-01-01 BC', '0001-12-31 BC', '0001-01-01', '5874897-12-31'),
  column('timestamp', 'infinity', '-infinity', '4714-11-24 BC', '294276-12-31 23:59:59.999999', '2000-02-29 12:00'),
  column('timestamp(0)', '2020-01-01 00:00:01', 'infinity'),
  column('timestamp(3)', '2020-01-01 00:00:01.001', '0044-03-15 BC'),
  column(
    'timestamptz',
    'infinity',
    '-infinity',
    '4714-11-24 BC',
    '294276-12-31 23:59:59.999999Z',
    '2020-03-29 02:30+1',
  ),
  column('time', '00:00', '24:00:00', '23:59:59.999999'),
  column('time(2)', '12:00:00.25'),
  column('timetz', '23:59:59.999999-15:59', '00:00+15:59', '24:00:00+00'),
  column('interval', '1 year -2 mons 3 days -04:05:06.789', '-178000000 years', '0', '1 mon -1 day', '25:00:00.000001'),
  column('interval day to second(3)', '1 day 02:03:04.567'),
  column('uuid', '00000000-0000-0000-0000-000000000000', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
  column('point', '(1,NaN)', '(-0,Infinity)', '(0.1,-1e300)'),
  column('line', '{1,2,3}', '{-1,0,0.5}'),
  column('lseg', '[(0,0),(1,-0)]'),
  column('box', '(1,1),(0,0)', '(NaN,1),(0,0)'),
  column('path', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))'),
  column('polygon', '((0,0),(1,1),(2,0))'),
  column('circle', '<(0,0),0>', '<(1,-1),Infinity>'),
  column('cidr', '10.0.0.0/8', '::/0', '2001:db8::/32'),
  column('inet', '10.1.2.3/8', '10.1.2.3', '::1', '::ffff:1.2.3.4/100'),
  column('macaddr', '08:00:2b:01:02:03'),
  column('macaddr8', '08:00:2b:01:02:03:04:05'),
  column('bit(3)', '101', '000'),
  column('bit', '1'),
  column('varbit', '', '1', '0101010101010101010'),
  column('varbit(10)', '', '0101'),
  column('tsvector', '', "a:1A fat:2B,4C 'cat' 'it''s' '\\\\'"),
  column('json', '{"a":  1, "a": [2, null]}', 'null', '"\\u0041\\n"', '-0.0', '[]'),
  column('jsonb', '{"b": 1e3, "a": [2.50, null, {"": ""}]}', 'null', '"\\u0041\\t\\\\"', '-0.0', '[[]]'),
  column('jsonpath', '$."a b"[*] ? (@ > 1)', 'strict $'),
  column('pg_lsn', '0/0', 'FFFFFFFF/FFFFFFFF'),
  column('xid', '0', '4294967295'),
  column('xid8', '0', '18446744073709551615'),
  column('cid', '7'),
  column('tid', '(0,1)', '(4294967295,65535)'),
  column('oid', '0', '4294967295'),
  column('pg_snapshot', '10:20:10,14,15'),
  column('txid_snapshot', '10:20:'),
  column('refcursor', 'my cursor'),
  column('int4range', 'empty', '(,)', '[1,5)', '[,-3)'),
  column('int8range', '[9223372036854775806,9223372036854775807)'),
  column('numrange', '(1.10,NaN]', '[1.0,1.00]'),
  column('daterange', '[infinity,)', '[4713-01-01 BC,2000-01-01)'),
  column('tsrange', '["2000-01-01 00:00:00.000001",infinity]'),
  column('tstzrange', '[-infinity,"2000-01-01 00:00+02")'),
  column('int4multirange', '{}', '{[1,2),[5,)}'),
  column('nummultirange', '{(,1.5],[2.50,2.50]}'),
  column('tstzmultirange', '{[2000-01-01,2001-01-01)}'),
  column('int[]', '{}', '{1,NULL,-3}', '{{1,2},{3,NULL}}', '[0:1]={5,6}', '[-2:-1][3:4]={{1,2},{3,4}}', '{{{1}}}'),
  column('text[]', '{}', '{"",NULL,"NULL","a\\"b","c\\\\d","{,}",ü,"\\\\."}', '{{a,b},{"x y",NULL}}'),
  column('varchar(3)[]', '{abc,"",NULL}'),
  column('char(3)[]', '{a,"",NULL}'),
  column('numeric(6,2)[]', '{1.50,NaN,NULL}'),
  column('double precision[]', '{NaN,-0,Infinity,0.1}'),
  column('bytea[]', '{"\\\\x","\\\\x00ff",NULL}'),
  column('timestamptz[]', '{infinity,"2000-01-01 00:00:00.5+00","4713-01-01 BC"}'),
  column('json[]', '{"{\\"a\\":  1}","null",NULL}'),
  column('jsonb[]', '{"{\\"a\\": 1}","null",NULL}'),
  column('box[]', '{(1,1),(0,0);(2,2),(1,1)}'),
  column('point[]', '{"(1,2)","(NaN,-0)"}'),
  column('int4range[]', '{"[1,2)",empty,NULL}'),
  column('inet[]', '{::1,10.0.0.0/8}'),
]

/**
 * Types that are only passed on as text: ids of the source's objects, an encoding, and those whose empty
 * value PostgreSQL sends in binary but does not take. One such column decides for its table.
 */
export const textFamily: readonly FamilyColumn[] = [
  column('oidvector[]', '{"1 2","3"}'),
  column('int2vector', '-1 2 3', ''),
  column('oidvector', '1 2 3', ''),
  column('tsquery', '', "fat & (rat | !cat:ab*) <-> 'x y'"),
  column('xml', '', '<a b="1">x &amp; y</a>text', '<?xml version="1.0"?><a/>', '<a>\t\n\\ ü 😀</a>', '<![CDATA[<]]>'),
  column('xml[]', '{"<a b=\\"c\\"/>",NULL,text}'),
  column('regclass', 'pg_catalog.pg_class', '0', '987654321'),
  column('regtype', 'pg_catalog.int4', 'pg_catalog."char"', 'int[]'),
  column('regproc', 'pg_catalog.now'),
  column('regprocedure', 'pg_catalog.abs(integer)'),
  column('regoper', 'pg_catalog.||/'),
  column('regoperator', 'pg_catalog.+(integer,integer)'),
  column('regrole', 'pg_monitor'),
  column('regnamespace', 'pg_catalog'),
  column('regconfig', 'pg_catalog.english'),
  column('regdictionary', 'pg_catalog.simple'),
  column('regcollation', 'pg_catalog."C"'),
  column('regclass[]', '{pg_catalog.pg_class,NULL}'),
  column('aclitem', { sql: "makeaclitem('pg_monitor'::regrole, 'pg_monitor'::regrole, 'SELECT', true)" }),
]

/** Types of somebody's own, which `ownTypeStatements` makes. */
export const ownFamily: readonly FamilyColumn[] = [
  column('"Odd.Types".mood', '', "o'k", 'back\\slash', 'tab\there', 'ümläut', '"q"'),
  column('"Odd.Types".mood[]', '{"","o\'k",NULL}', '{{"back\\\\slash","ümläut"}}'),
  column('"Odd.Types".positive', '1', '2147483647'),
  column('"Odd.Types".positive[]', '{1,NULL,3}'),
  column('"Odd.Types".short', 'abc', '', 'x  '),
  column('"Odd.Types".shorter', 'ab'),
  column('"Odd.Types".list', '{a,"b,c",NULL}', '{}'),
  column('"Odd.Types".moods', '{"",ümläut}'),
  column('"Odd.Types".pair', '(1,"a,""b\\\\")', '(,)', '(,"")', '(-1,"\\\\.")'),
  column('"Odd.Types".pair[]', '{"(1,a)",NULL,"(,)"}'),
  column('"Odd.Types".nest', { sql: `row('ümläut', row(1, 'x'), array[1.50, null]::numeric(6,2)[], 2)` }, '(,,,)'),
  column('"Odd.Types".nest[]', {
    sql: `array[row('', row(null, E'a\\tb'), '{}', 2)::"Odd.Types".nest]`,
  }),
  column('"Odd.Types".good_pair', '(1,a)'),
  column('"Odd.Types".floats', '[-0.5,NaN)', 'empty', '(,)'),
  column('"Odd.Types".many_floats', '{[1,2),[3,Infinity)}', '{}'),
  column('"Odd.Types".moods_between', '["","o\'k"]'),
  column('"Odd.Types".floats[]', '{"[1,2]",empty}'),
]

/** What the types of `ownFamily` are made of, in a schema whose name needs quotes. */
export const ownTypeStatements: readonly string[] = [
  'create schema "Odd.Types"',
  `create type "Odd.Types".mood as enum ('', 'o''k', E'back\\\\slash', E'tab\\there', 'ümläut', '"q"')`,
  'create domain "Odd.Types".positive as integer check (value > 0)',
  'create domain "Odd.Types".short as varchar(5)',
  `create domain "Odd.Types".shorter as "Odd.Types".short check (length(value) < 3)`,
  'create domain "Odd.Types".list as text[] check (cardinality(value) < 9)',
  'create domain "Odd.Types".moods as "Odd.Types".mood[]',
  'create type "Odd.Types".pair as ("Left.Side" integer, "right" text)',
  'create type "Odd.Types".nest as (m "Odd.Types".mood, p "Odd.Types".pair, n numeric(6,2)[], d "Odd.Types".positive)',
  'create domain "Odd.Types".good_pair as "Odd.Types".pair check ((value)."Left.Side" > 0)',
  'create type "Odd.Types".floats as range (subtype = float8, multirange_type_name = "Odd.Types".many_floats)',
  'create type "Odd.Types".moods_between as range (subtype = "Odd.Types".mood)',
]

export const extensionFamily: readonly FamilyColumn[] = [
  column('public.hstore', '', '"a b"=>"c\\"d", e=>NULL, "ü"=>"\\\\"'),
  column('public.hstore[]', '{"a=>1",NULL}'),
  column('public.citext', ...words, ...worldWide),
  column('public.citext[]', '{Ab,aB,NULL}'),
]
