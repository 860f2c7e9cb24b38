//! What the specification says, and what was decided where it does not; beyond what the conformance kit holds.

use super::*;

/// Expressions with their value and kind of error, for the event of these tests.
fn hold(cases: &[(&str, &str, &str)]) {
    for (text, value, error) in cases {
        let (have, kind) = outcome(text, &event());
        assert_eq!((have.as_str(), kind), (*value, *error), "{text}");
    }
}

#[test]
fn operators_bind_as_the_specification_lists_them() {
    hold(&[
        ("1 + 2 * 3", "7", ""),
        ("10 - 2 - 3", "5", ""),
        ("2 * 3 % 4", "2", ""),
        ("1 + 2 = 3", "true", ""),
        ("1 = 1 = TRUE", "true", ""),
        ("TRUE OR TRUE AND FALSE", "true", ""),
        ("FALSE AND TRUE OR TRUE", "true", ""),
        ("TRUE XOR TRUE OR TRUE", "false", ""),
        ("TRUE XOR FALSE AND FALSE", "true", ""),
        ("NOT FALSE AND FALSE", "false", ""),
        ("NOT yes = FALSE", "true", ""),
        ("NOT 'true' LIKE 'f%'", "true", ""),
        ("2 * 3 IN (3)", "2", ""),
        ("-2 + 5", "3", ""),
        ("4-1", "3", ""),
        ("--10", "10", ""),
        ("- 10", "-10", ""),
        ("-'10'", "-10", ""),
        ("-yes", "-1", ""),
        ("+5 - -5", "10", ""),
        ("((((1))))", "1", ""),
        ("NOT NOT TRUE", "true", ""),
        ("'b' NOT IN ('a') AND 'b' NOT LIKE 'a'", "true", ""),
    ]);
}

#[test]
fn arithmetic_truncates_and_stays_within_32_bits() {
    hold(&[
        ("7 / 2", "3", ""),
        ("-7 / 2", "-3", ""),
        ("-7 % 2", "-1", ""),
        ("7 % -2", "1", ""),
        ("1 / 0", "0", "math"),
        ("1 % 0", "0", "math"),
        ("2147483647 + 1", "0", "math"),
        ("-2147483648 - 1", "0", "math"),
        ("65536 * 65536", "0", "math"),
        ("-least", "0", "math"),
        ("least / -1", "0", "math"),
        ("least % -1", "0", ""),
        ("-2147483648", "-2147483648", ""),
        ("'5' + 3", "8", ""),
        ("5 + TRUE", "6", ""),
        ("'5avc4' + 10", "0", "cast"),
        ("missing * 5", "0", "missingAttribute"),
        ("-missing", "0", "missingAttribute"),
        ("(1 / 0) + 5", "0", "math"),
    ]);
}

#[test]
fn comparisons_read_the_left_as_the_type_of_the_right() {
    hold(&[
        ("text7 = 7", "true", ""),
        ("7 = text7", "true", ""),
        ("count = '3'", "true", ""),
        ("count = '03'", "false", ""),
        ("yes = 'true'", "true", ""),
        ("'TRUE' = yes", "true", ""),
        ("1 = TRUE", "false", "cast"),
        ("TRUE = 1", "true", ""),
        ("reason = 5", "false", "cast"),
        ("reason != 5", "false", "cast"),
        ("reason < 'x'", "false", "cast"),
        ("'12' < '9'", "false", ""),
        ("count >= 3 AND count <= 3 AND NOT (count > 3) AND NOT (count < 3)", "true", ""),
        ("missing = missing", "false", "missingAttribute"),
        ("missing <> ''", "false", "missingAttribute"),
    ]);
}

#[test]
fn logic_looks_no_further_than_it_needs_and_an_error_ends_it() {
    hold(&[
        ("FALSE AND missing", "false", ""),
        ("TRUE OR missing", "true", ""),
        ("TRUE AND missing", "false", "missingAttribute"),
        ("missing AND FALSE", "false", "missingAttribute"),
        ("missing OR TRUE", "false", "missingAttribute"),
        ("TRUE XOR missing", "false", "missingAttribute"),
        ("FALSE AND NOPE()", "false", ""),
        ("TRUE AND NOPE()", "false", "missingFunction"),
        ("NOT 'abc'", "true", "cast"),
        ("NOT (NOT 10)", "false", "cast"),
        ("10 AND TRUE", "false", "cast"),
        ("'true' AND 'TRUE' OR missing", "true", ""),
        ("TRUE AND (1 / 0 = 0)", "false", "math"),
        ("missing = 1 OR 1 / 0 = 0", "false", "missingAttribute"),
    ]);
}

#[test]
fn sets_are_read_as_the_type_of_the_left_until_one_is_equal() {
    hold(&[
        ("1 IN (2, '1')", "true", ""),
        ("1 IN (1, missing)", "true", ""),
        ("1 IN (missing, 1)", "false", "missingAttribute"),
        ("1 IN ('abc', 1)", "false", "cast"),
        ("missing IN (1)", "false", "missingAttribute"),
        ("missing NOT IN (1)", "false", "missingAttribute"),
        ("reason IN ('backoff')", "false", ""),
        ("count IN (1 + 2)", "true", ""),
        ("'a' IN ('a') IN (TRUE)", "true", ""),
    ]);
}

#[test]
fn patterns_match_whole_texts_by_character() {
    hold(&[
        ("subject LIKE 'Ünit%'", "true", ""),
        ("subject LIKE '_nit \\%\\_% test'", "true", ""),
        ("subject LIKE '%\\_\\ %'", "true", ""),
        ("'' LIKE ''", "true", ""),
        ("'' LIKE '%'", "true", ""),
        ("'' LIKE '_'", "false", ""),
        ("'😀' LIKE '_'", "true", ""),
        ("'a\nb' LIKE 'a_b'", "true", ""),
        ("'aXbXc' LIKE '%X_%'", "true", ""),
        ("'abab' LIKE '%ab'", "true", ""),
        ("'ab' LIKE 'ab%ab'", "false", ""),
        ("'aab' LIKE '%a_'", "true", ""),
        ("'abcd' LIKE '%b_d%'", "true", ""),
        ("'ABC' LIKE 'abc'", "false", ""),
        ("missing NOT LIKE '%'", "false", "missingAttribute"),
    ]);
    let slow = format!("'{}' LIKE '{}b'", "a".repeat(5000), "%a".repeat(2000));
    assert_eq!(outcome(&slow, &event()), ("false".to_owned(), ""));
}

#[test]
fn functions_give_what_the_specification_says() {
    hold(&[
        ("LENGTH('')", "0", ""),
        ("LENGTH('€😀')", "2", ""),
        ("LENGTH(123)", "3", ""),
        ("length(TRUE)", "4", ""),
        ("CONCAT()", "\"\"", ""),
        ("CONCAT('a', 1, TRUE)", "\"a1true\"", ""),
        ("CONCAT_WS(',')", "\"\"", ""),
        ("CONCAT_WS(',', 'a')", "\"a\"", ""),
        ("Concat_Ws('--', 'a', 'b', '')", "\"a--b--\"", ""),
        ("LOWER('AbC ÄÖ')", "\"abc äö\"", ""),
        ("UPPER('AbC ß')", "\"ABC SS\"", ""),
        ("TRIM(' \t\n a b \u{a0}')", "\"a b\"", ""),
        ("LEFT('abc', 2)", "\"ab\"", ""),
        ("LEFT('abc', 10)", "\"abc\"", ""),
        ("LEFT('abc', 0)", "\"\"", ""),
        ("LEFT('abc', -1)", "\"abc\"", "functionEvaluation"),
        ("LENGTH(LEFT('abc', -1))", "0", "functionEvaluation"),
        ("RIGHT('a€c', '2')", "\"€c\"", ""),
        ("RIGHT('abc', 4)", "\"abc\"", ""),
        ("RIGHT('abc', -2)", "\"abc\"", "functionEvaluation"),
        ("RIGHT('abc', 'x')", "\"\"", "cast"),
        ("SUBSTRING('Hello', 2)", "\"ello\"", ""),
        ("SUBSTRING('Hello', -3)", "\"llo\"", ""),
        ("SUBSTRING('Hello', 0)", "\"\"", ""),
        ("SUBSTRING('Hello', 5)", "\"o\"", ""),
        ("SUBSTRING('Hello', 6)", "\"\"", "functionEvaluation"),
        ("SUBSTRING('Hello', -5)", "\"Hello\"", ""),
        ("SUBSTRING('Hello', -6)", "\"\"", "functionEvaluation"),
        ("SUBSTRING('Hello', 2, 3)", "\"ell\"", ""),
        ("SUBSTRING('Hello', -3, 2)", "\"ll\"", ""),
        ("SUBSTRING('Hello', 2, 99)", "\"ello\"", ""),
        ("SUBSTRING('Hello', 2, 0)", "\"\"", ""),
        ("SUBSTRING('Hello', 0, 1)", "\"\"", ""),
        ("SUBSTRING('Hello', 1, -1)", "\"\"", "functionEvaluation"),
        ("SUBSTRING('', 1)", "\"\"", "functionEvaluation"),
        ("SUBSTRING('Hello', least)", "\"\"", "functionEvaluation"),
        ("ABS('-3')", "3", ""),
        ("ABS(yes)", "1", ""),
        ("ABS('x')", "0", "cast"),
        ("ABS(least)", "2147483647", "math"),
        ("1 + ABS(least)", "0", "math"),
        ("INT('+7')", "7", ""),
        ("INT(' 7')", "0", "cast"),
        ("INT('')", "0", "cast"),
        ("INT('2147483648')", "0", "cast"),
        ("INT('1.5')", "0", "cast"),
        ("BOOL('tRuE')", "true", ""),
        ("BOOL('')", "false", "cast"),
        ("STRING(-5)", "\"-5\"", ""),
        ("IS_INT('12')", "true", ""),
        ("IS_INT(TRUE)", "true", ""),
        ("IS_INT('x')", "false", ""),
        ("IS_BOOL('false')", "true", ""),
        ("IS_BOOL(1)", "true", ""),
        ("IS_BOOL('1')", "false", ""),
        ("IS_INT(missing)", "false", "missingAttribute"),
        ("CONCAT('a', missing)", "\"\"", "missingAttribute"),
        ("UPPER(missing)", "\"\"", "missingAttribute"),
        ("NOPE(1)", "false", "missingFunction"),
        ("LENGTH()", "false", "missingFunction"),
        ("LENGTH('a', 'b')", "false", "missingFunction"),
        ("CONCAT_WS()", "false", "missingFunction"),
        ("1 + NOPE()", "0", "missingFunction"),
        ("NOPE(missing)", "false", "missingFunction"),
    ]);
}

#[test]
fn names_are_read_in_any_case() {
    hold(&[
        ("TYPE = 'order.placed' aNd Reason Like 'Back%'", "true", ""),
        ("exists SOURCE", "true", ""),
        ("EXISTS missing OR not EXISTS Missing", "true", ""),
        ("specversion", "\"1.0\"", ""),
        ("EXISTS empty AND empty = ''", "true", ""),
        ("'It''s' = \"It's\" AND 'a\\b' = \"a\\b\" AND \"say \\\"x\\\"\" = 'say \"x\"'", "true", ""),
        ("'a\\\\' = 'a\\\\'", "true", ""),
        ("\t( 1\r\n= 1 )", "true", ""),
    ]);
}

#[test]
fn data_topic_and_scope_are_read() {
    hold(&[
        ("data.n + 1", "6", ""),
        ("data['n'] = 5", "true", ""),
        ("data.big", "\"3000000000\"", ""),
        ("data.big > 1", "false", "cast"),
        ("data.part", "\"1.5\"", ""),
        ("data.yes", "true", ""),
        ("data.none", "false", "missingAttribute"),
        ("EXISTS data.none", "false", ""),
        ("EXISTS data.list", "true", ""),
        ("data.list", "false", "cast"),
        ("data", "false", "cast"),
        ("EXISTS data AND EXISTS DATA.n", "true", ""),
        ("data.list[0] = 1 AND data.list[1].x = 'y'", "true", ""),
        ("data.list[2]", "false", "missingAttribute"),
        ("data.labels['app.kubernetes.io/name'] LIKE 'w%'", "true", ""),
        ("data.labels[\"it's\"]", "1", ""),
        ("data.case", "false", "missingAttribute"),
        ("data.Case", "\"A\"", ""),
        ("data.text", "\"a\\nb\"", ""),
        ("data.deep.a.b IN ('c')", "true", ""),
        ("data.deep.a-1", "0", "cast"),
        ("mbtopic LIKE 'shop/%/orders'", "true", ""),
        ("mbscope", "false", "missingAttribute"),
    ]);
    let mut change = event();
    change.change = Change::Put(Key::new("east", "T", "n"), "1".into());
    change.extensions.set("mbscope", "forged");
    assert_eq!(outcome("mbscope", &change), ("\"east\"".to_owned(), ""));
    for (kind, data) in [(Some("text/plain"), "{\"n\": 5}"), (None, "{\"n\": 5, "), (None, ""), (None, "n")]
    {
        let mut other = event();
        other.datacontenttype = kind.map(Into::into);
        other.data = data.into();
        assert_eq!(
            outcome("data.n = 5", &other),
            ("false".to_owned(), "missingAttribute"),
            "{kind:?} {data}"
        );
    }
}

#[test]
fn addresses_are_looked_for_in_networks() {
    hold(&[
        ("IP_IN(address, '10.0.0.0/8')", "true", ""),
        ("ip_in(address, '10.1.2.4/31', '10.1.2.3')", "true", ""),
        ("IP_IN(address, '192.168.0.0/16', '2001:db8::/32')", "false", ""),
        ("IP_IN(address, '0.0.0.0/0')", "true", ""),
        ("IP_IN(six, '2001:DB8::/32')", "true", ""),
        ("IP_IN(six, '0.0.0.0/0')", "false", ""),
        ("IP_IN('::ffff:10.1.2.3', '10.0.0.0/8')", "true", ""),
        ("IP_IN(address, '10.255.255.255/8')", "true", ""),
        ("IP_IN(reason, '10.0.0.0/8')", "false", "functionEvaluation"),
        ("IP_IN(missing, '10.0.0.0/8')", "false", "missingAttribute"),
        ("IP_IN(address)", "false", "missingFunction"),
        (
            "IP_IN(address, '10.0.0.0/33')",
            "column 16: IP_IN needs networks in quotes: '10.0.0.0/8', '::1'",
            "parse",
        ),
        (
            "IP_IN(address, reason)",
            "column 16: IP_IN needs networks in quotes: '10.0.0.0/8', '::1'",
            "parse",
        ),
    ]);
}

#[test]
fn what_is_no_expression_is_told_by_its_column() {
    for (text, expected) in [
        ("", "column 1: the expression is empty"),
        ("  ", "column 3: the expression is empty"),
        ("a =", "column 4: a value is missing here"),
        ("a = = b", "column 5: a value is missing before this"),
        ("a == b", "column 3: == is no operator"),
        ("a && b", "column 3: & is no operator: write AND"),
        ("!a", "column 1: ! is no operator: write NOT"),
        ("a b", "column 3: an operator such as AND or ="),
        ("(a", "column 1: ( is not closed"),
        ("(a b)", "column 4: , or ) or an operator"),
        ("a)", "column 2: ) closes nothing"),
        ("ABC(", "column 5: a value is missing here"),
        ("F(a,)", "column 5: a value is missing before this"),
        ("'abc", "column 1: the text is not closed: ' is missing"),
        ("é = 1", "column 1: 'é' is nothing of the language"),
        ("a = 'é' é", "column 9: 'é' is nothing"),
        ("x LIKE y", "column 8: LIKE needs a pattern in quotes"),
        ("x IN 1", "column 6: IN needs a list"),
        ("x IN ()", "column 7: a value is missing before this"),
        ("EXISTS 1", "column 8: the name of an attribute"),
        ("EXISTS (a)", "column 8: the name of an attribute"),
        ("2147483648", "column 1: 2147483648 is beyond 32 bits"),
        ("- 2147483648", "column 3: 2147483648 is beyond"),
        ("1.5", "column 2: . stands only in data.path"),
        ("my_attr = 1", "column 1: no attribute has a _"),
        ("F1(a)", "column 1: a function's name"),
        ("+ 1", "column 1: + stands between"),
        ("data.a[x] = 1", "column 1: data.a[x] is no path: write [0]"),
        ("data.a['x = 1", "column 1: a name in [''] is not closed"),
        ("data. = 1", "column 1: data. is no path: a name is empty"),
        ("a NOT = b", "column 3: an operator"),
    ] {
        let error = Expression::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn a_filter_that_can_want_nothing_is_refused() {
    for (text, expected) in [
        ("LEN(type) = 1", "column 1: there is no function LEN with"),
        ("type = 'a' OR a IN (1, LENGTH())", "column 24: there is no function LENGTH with"),
        ("1 + 1", "column 1: is a number"),
        ("LOWER(type)", "column 1: is text"),
    ] {
        let error = Expression::filter(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let event = event();
    for (text, expected) in [
        ("yes", Ok(true)),
        ("reason", Err(ErrorKind::Cast)),
        ("count", Err(ErrorKind::Cast)),
        ("missing", Err(ErrorKind::MissingAttribute)),
        ("count = 3", Ok(true)),
        ("count = 4", Ok(false)),
    ] {
        assert_eq!(Expression::filter(text).unwrap().wants(&View::of(&event)), expected, "{text}");
    }
}

#[test]
fn the_bounds_hold() {
    let nested = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    let long = |n: usize| vec!["a"; n].join(" OR ");
    assert!(Expression::parse(&nested(DEPTH_MAX - 1)).is_ok());
    for text in [nested(DEPTH_MAX), "NOT ".repeat(DEPTH_MAX) + "a", vec!["1"; DEPTH_MAX + 1].join(" + ")] {
        assert!(Expression::parse(&text).unwrap_err().reason.contains("too deeply"), "{text}");
    }
    assert!(Expression::parse(&long(1000)).is_ok());
    assert!(Expression::parse(&long(1100)).unwrap_err().reason.contains("2048 parts"));
    assert!(Expression::parse(&" ".repeat(EXPRESSION_MAX + 1)).unwrap_err().reason.contains("too long"));
    let piece = |n: usize| format!("a LIKE '%{}_%'", "x".repeat(n));
    assert!(Expression::parse(&piece(63)).is_ok());
    assert!(Expression::parse(&piece(64)).unwrap_err().reason.contains("64 characters"));
    let mut bomb = "'0123456789abcdef'".to_owned();
    for _ in 0..5 {
        bomb = format!("CONCAT({bomb}, {bomb})");
    }
    let bomb = format!("CONCAT({bomb}, {bomb}, {bomb}, {bomb}, {bomb}, {bomb}, {bomb}, {bomb})");
    assert_eq!(outcome(&format!("LENGTH({bomb})"), &event()), ("4096".to_owned(), ""));
    let mut large = event();
    large.extensions.set("large", "x".repeat(TEXT_MAX));
    assert_eq!(outcome("CONCAT(large, 'x')", &large), ("\"\"".to_owned(), "generic"));
    assert_eq!(outcome("LENGTH(UPPER(large))", &large), ("0".to_owned(), "generic"));
    assert_eq!(outcome("LENGTH(LOWER(large))", &large), ("65536".to_owned(), ""));
}

#[test]
fn a_refusal_names_the_clause_and_the_error_its_column() {
    for (text, expected) in [
        ("type = 'x'", Some("type = 'x' is false")),
        ("yes AND (count = 4) AND missing", Some("count = 4 is false")),
        (
            "count = 3 AND missing = 1",
            Some("count = 3 AND missing = 1 failed: missingAttribute: missing is missing (column 15)"),
        ),
        ("reason < 3", Some("reason < 3 failed: cast: reason cannot be read as an integer (column 1)")),
        ("reason", Some("reason is not true or false")),
        ("yes", None),
    ] {
        assert_eq!(Expression::filter(text).unwrap().refusal(&event()).as_deref(), expected);
    }
    let error = Expression::parse("a = 1\n\tAND = 2").unwrap_err();
    assert_eq!(error.render("a = 1\n\tAND = 2"), "\tAND = 2\n\t    ^ a value is missing before this");
    assert_eq!(error.place("a = 1\n\tAND = 2"), "line 2, column 6");
}

#[test]
fn expressions_of_one_text_are_one_and_their_result_is_remembered() {
    let mut shared = Expressions::new();
    let mut all: Vec<Expression> =
        (0..300).map(|n| Expression::filter(&format!("count = {}", n % 100)).unwrap()).collect();
    for expression in &mut all {
        shared.share(expression);
    }
    assert_eq!(shared.len(), 100);
    assert!(Arc::ptr_eq(&all[7].0, &all[107].0) && all[7] == all[207]);
    let numbers: std::collections::BTreeSet<u32> =
        all.iter().map(|expression| expression.0.number.get().unwrap().at).collect();
    assert_eq!(numbers, (0..100).collect());
    let mut alone = Expression::filter("count = 3").unwrap();
    Expressions::new().share(&mut alone);
    assert_eq!(alone.0.number.get(), None);
}
