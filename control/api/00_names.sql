-- A name as people write it: quoted only where SQL needs it, control and direction characters as SQL writes them,
-- U&"line\000abreak" (src/postgres/identifier.ts says the same).
CREATE OR REPLACE FUNCTION yardmaster.display_name(name text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN name ~ '^[a-z_][a-z0-9_$]*$' THEN name
    WHEN name !~ '[\x01-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]'
      THEN '"' || replace(name, '"', '""') || '"'
    ELSE (
      SELECT 'U&"' || string_agg(CASE
          WHEN letter ~ '[\x01-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]'
            THEN '\' || lpad(to_hex(ascii(letter)), 4, '0')
          WHEN letter = '\' THEN '\\'
          WHEN letter = '"' THEN '""'
          ELSE letter END, '' ORDER BY place) || '"'
      FROM string_to_table(name, NULL) WITH ORDINALITY AS letters(letter, place))
  END
$$;

-- `a`, `a and b`, `a, b and c`, at most eight by name.
CREATE OR REPLACE FUNCTION yardmaster.names_in_words(names text[])
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN cardinality(names) > 8 THEN format('%s and %s more', array_to_string(names[1:7], ', '), cardinality(names) - 7)
    WHEN cardinality(names) > 1 THEN array_to_string(names[1:cardinality(names) - 1], ', ') || ' and ' || names[cardinality(names)]
    ELSE names[1] END
$$;

CREATE OR REPLACE FUNCTION yardmaster.as_first_word(phrase text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT upper(left(phrase, 1)) || substr(phrase, 2)
$$;

-- One word of a shell, whatever is in it.
CREATE OR REPLACE FUNCTION yardmaster.shell_quoted(word text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '''' || replace(word, '''', $q$'\''$q$) || ''''
$$;
