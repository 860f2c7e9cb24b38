//! Mistakes people make: each is told at the exact place, with what would be right.

use std::fmt::Write;

use super::wire::read;

/// Marks where the error must stand; taken out before the file is read.
const MARK: char = '‸';

struct Mistake {
    name: &'static str,
    files: &'static [&'static str],
}

const fn one(name: &'static str, files: &'static [&'static str]) -> Mistake {
    Mistake { name, files }
}

const MISTAKES: &[Mistake] = &[
    one("unknown field", &["routes:\n  r:\n    ‸form: [a]\n    to: [{bus: x}]\n"]),
    one(
        "camel case",
        &["connectors:\n  a:\n    wire:\n      client:\n        urls: []\n        ‸labelSelector: app=x\n"],
    ),
    one("unknown section", &["‸route:\n  r: {to: [{bus: x}]}\n"]),
    one("wrong type", &["connectors: {a: {wire: {client: {urls: [], retain: ‸\"yes\"}}}}\n"]),
    one("one value for a list", &["connectors: {a: {wire: {client: {urls: ‸\"wire://h\"}}}}\n"]),
    one("missing variable", &["name: ‸${MESHBUS_NAME}\n"]),
    one(
        "required variable",
        &["connectors:\n  a: {wire: {client: {urls: [‸\"${URL:?where the hub is}\"]}}}\n"],
    ),
    one("duplicate key", &["name: a\nlogging: {}\n‸name: b\n"]),
    one(
        "unknown connector",
        &["connectors: {broker: {wire: {server: {}}}}\nroutes: {r: {from: [‸brokr], to: [{bus: x}]}}\n"],
    ),
    one(
        "unknown connector to send to",
        &[
            "connectors: {broker: {wire: {server: {}}}}\nroutes:\n  r:\n    to:\n      - connector: ‸hub\n        topic: x\n",
        ],
    ),
    one("unknown transport", &["connectors: {a: {‸wier: {client: {}}}}\n"]),
    one("no role", &["connectors:\n  a:\n    wire:\n      ‸urls: [\"wire://h\"]\n"]),
    one("two roles", &["connectors:\n  a:\n    wire:\n      client: {urls: []}\n      ‸server: {}\n"]),
    one("two transports", &["connectors:\n  a:\n    wire: {server: {}}\n    ‸tap: {client: {urls: []}}\n"]),
    one("a role the transport lacks", &["connectors: {a: {tap: {‸server: {}}}}\n"]),
    one("a duration without a unit", &["shutdown: {grace: ‸30}\n"]),
    one("a wrong unit of time", &["connectors: {a: {wire: {client: {urls: [], timeout: ‸5sec}}}}\n"]),
    one("a wrong unit of size", &["state:\n  max_bytes: ‸64MB1\n"]),
    one("a size in kilobytes", &["event_log: {changes: {max_bytes: ‸64kb}}\n"]),
    one("a wrong topic filter", &["routes: {r: {from: [{topic: ‸a/#/b}], to: [{bus: x}]}}\n"]),
    one("a template that is not closed", &["routes:\n  r:\n    to:\n      - bus: \"alerts/‸{reason\"\n"]),
    one(
        "a template in a target",
        &[
            "connectors: {a: {wire: {client: {urls: []}}}}\nroutes:\n  r:\n    to:\n      - {connector: a, topic: 'x/{type}‸}'}\n",
        ],
    ),
    one("a wildcard in a topic to publish on", &["routes: {r: {to: [{bus: \"alerts/‸#\"}]}}\n"]),
    one("set in two files", &["name: a\n", "routes: {}\n‸name: b\n"]),
    one("a list in two files", &["access: []\n", "‸access: []\n"]),
    one("a wrong URL", &["connectors: {a: {wire: {client: {urls: [\"wire://a\", ‸\"http://b\"]}}}}\n"]),
    one("a port out of range", &["connectors: {a: {wire: {server: {port: ‸65536}}}}\n"]),
    one("a reserved topic", &["routes: {r: {to: [{bus: ‸\"k8s/{type}\"}]}}\n"]),
    one("an empty from", &["routes:\n  r:\n    ‸from: []\n    to: [{bus: x}]\n"]),
    one("a route to nowhere", &["routes:\n  ‸r:\n    from: [{topic: a}]\n"]),
    one(
        "a server to send to",
        &["connectors: {a: {wire: {server: {}}}}\nroutes: {r: {to: [{connector: ‸a, topic: x}]}}\n"],
    ),
    one(
        "a route back",
        &[
            "connectors: {a: {wire: {client: {urls: []}}}}\nroutes: {r: {from: [a], to: [{connector: ‸a}]}}\n",
        ],
    ),
    one(
        "nested too deep",
        &[
            "x: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[‸[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n",
        ],
    ),
    one("tabs", &["connectors:\n‸\ta: {}\n"]),
    one("a list that is not closed", &["routes:\n  r:\n    from: [a, b\n    to‸: [x]\n"]),
    one("open to other machines", &["connectors: {a: {wire: {server: {listen: ‸\"0.0.0.0:80\"}}}}\n"]),
    one("health open to other machines", &["health: {listen: ‸\":18003\"}\n"]),
    one("one port twice", &["admin: {listen: \"127.0.0.1:1\"}\nhealth: {listen: ‸\"127.0.0.1:1\"}\n"]),
    one("unknown word", &["routes: {r: {to: [{bus: x}], when_full: ‸drop_newest}}\n"]),
    one("a log of a later version", &["event_log: {type: ‸disk}\n"]),
    one(
        "an unknown filter",
        &["routes:\n  r:\n    filters: [{‸dedup: {window: 1m}}]\n    to: [{bus: x}]\n"],
    ),
    one(
        "two filters in one entry",
        &["routes:\n  r:\n    filters:\n      - set: {a: b}\n        ‸remove: [c]\n    to: [{bus: x}]\n"],
    ),
    one("a filter that is no map", &["routes: {r: {filters: [‸dedupe], to: [{bus: x}]}}\n"]),
    one("filters that are no list", &["routes:\n  r:\n    ‸filters: {dedupe: {}}\n    to: [{bus: x}]\n"]),
    one(
        "a template of a filter",
        &["routes: {r: {filters: [{set: {a: \"x ‸{reason\"}}], to: [{bus: x}]}}\n"],
    ),
    one(
        "a field of a filter",
        &["routes: {r: {filters: [{rate_limit: {rate: 1, ‸brust: 2}}], to: [{bus: x}]}}\n"],
    ),
    one("a path of a filter", &["routes: {r: {filters: [{pick: [data.a, ‸pod]}], to: [{bus: x}]}}\n"]),
    one(
        "an output that no filter has",
        &["routes: {r: {filters: [{dedupe: {}}], to: [{bus: x, ‸output: alert}]}}\n"],
    ),
    one(
        "an expression without a value",
        &["routes:\n  r:\n    where: \"reason = ‸AND type = 'x'\"\n    to: [{bus: x}]\n"],
    ),
    one(
        "an expression over several lines",
        &["routes:\n  r:\n    where: |\n      ‸reason = 'a'\n      OR LIKE\n    to: [{bus: x}]\n"],
    ),
    one("an unknown function", &["routes:\n  r:\n    where: ‸LEN(type) = 3\n    to: [{bus: x}]\n"]),
    one("an expression of text", &["routes:\n  r:\n    where: ‸CONCAT(type, 'x')\n    to: [{bus: x}]\n"]),
    one("a list of expressions", &["routes:\n  r:\n    ‸where: [{sql: a}]\n    to: [{bus: x}]\n"]),
    one(
        "a wrong expression of a dialect",
        &["routes:\n  r:\n    dialects: [{any: [{sql: ‸\"a ==\"}]}]\n    to: [{bus: x}]\n"],
    ),
    one("capture", &["‸capture: {listen: \":15001\"}\n"]),
    one("a wrong dialect", &["routes: {r: {dialects: [{‸exakt: {type: x}}], to: [{bus: x}]}}\n"]),
    one("a dialect without attributes", &["routes: {r: {dialects: [‸{exact: {}}], to: [{bus: x}]}}\n"]),
    one("no attempts", &["routes: {r: {to: [{bus: x}], retry: {max_attempts: ‸0}}}\n"]),
    one("too many in flight", &["routes: {r: {to: [{bus: x}], in_flight: ‸100000}}\n"]),
    one("a secret in the file", &["access: [{principal: ci, token: ‸hunter2, allow: [publish]}]\n"]),
    one("an unknown permission", &["access: [{principal: ci, allow: [publish, ‸subscibe]}]\n"]),
    one("a name of a connector", &["connectors: {‸a/b: {wire: {server: {}}}}\n"]),
    one("a reserved name", &["connectors: {‸local: {wire: {server: {}}}}\n"]),
    one(
        "a scope of another",
        &["connectors:\n  a: {wire: {client: {urls: []}}}\n  b: {wire: {client: {urls: [], scope: ‸a}}}\n"],
    ),
    one("a level of logging", &["logging: {level: ‸\"meshbus=loud\"}\n"]),
    one("a test of no route", &["tests: [{name: t, route: ‸r, input: {file: x}, expect: []}]\n"]),
    one("two documents", &["name: a\n‸---\nroutes: {}\n"]),
];

#[test]
fn each_mistake_is_told_once_at_its_place() {
    let mut told = String::new();
    for Mistake { name, files } in MISTAKES {
        let names = ["a.yaml", "b.yaml"];
        let files: Vec<_> = names.into_iter().zip(files.iter().map(|text| unmark(text))).collect();
        let (file, place) = files
            .iter()
            .find_map(|(file, (_, place))| place.map(|place| (*file, place)))
            .unwrap_or_else(|| panic!("{name} has no mark"));
        let texts: Vec<_> = files.iter().map(|(file, (text, _))| (*file, text.as_str())).collect();
        let errors = read(&texts).expect_err(name);
        let places: Vec<_> =
            errors.iter().map(|error| (error.file.as_str(), (error.line, error.column))).collect();
        assert_eq!(places, [(file, place)], "{name}: {errors:#?}");
        write!(told, "# {name}\n{}\n\n", errors[0].render()).unwrap();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = "conectors: {}\nconnectors: {a: {wire: {client: {urls: 5}}}, b: {nats: {}}}\nstate: {max_keys: 0}\n\
                routes: {r: {from: [x], to: [{connector: y}], in_flight: 0}}\n";
    let errors = read(&[("a.yaml", text)]).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "conectors",
            "connectors.a.wire.client.urls",
            "connectors.b.nats",
            "routes.r.from[0]",
            "routes.r.to[0].connector",
            "routes.r.in_flight",
            "state.max_keys",
        ]
    );
}

#[test]
fn of_many_mistakes_the_first_are_told() {
    let text = "a: b\n".repeat(1000);
    assert_eq!(read(&[("a.yaml", &text)]).unwrap_err().len(), 101);
    let text: String =
        (0..1000).flat_map(|n| ["x".to_owned(), n.to_string(), ": 1\n".to_owned()]).collect();
    let errors = read(&[("a.yaml", &text)]).unwrap_err();
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[100].to_string(), "a.yaml: has more mistakes; these are the first");
}

#[test]
fn what_is_wrong_with_a_connector_is_not_told_again_by_its_routes() {
    let text =
        "connectors: {a: {wire: {client: {urls: 5}}}}\nroutes: {r: {to: [{connector: a, topic: x}]}}\n";
    assert_eq!(read(&[("a.yaml", text)]).unwrap_err().len(), 1);
}

#[test]
fn a_secret_is_not_in_any_message() {
    for text in [
        "access: [{principal: ci, token: hunter2, allow: [publish]}]\n",
        "connectors: {a: {wire: {client: {urls: [], token: hunter2}}}}\n",
    ] {
        let errors = read(&[("a.yaml", text)]).unwrap_err();
        assert!(!format!("{errors:?} {} {}", errors[0], errors[0].render()).contains("hunter2"));
    }
}

/// The text without the mark, and the mark's line and column.
fn unmark(text: &str) -> (String, Option<(usize, usize)>) {
    let place = text.split_once(MARK).map(|(before, _)| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    });
    (text.replace(MARK, ""), place)
}
