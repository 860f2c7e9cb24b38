//! The command line against API servers: a bus's own, with kubectl beside it, and the hostile one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::kubectl;
use super::rig::{Api, kubectls};
use crate::bus::Bus;
use crate::cli::{LIMIT, Running, run, run_with};
use crate::hostile::{FAULTS, Fault, Hostile, Kind, Options};
use crate::process::{Scratch, free_port};

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_written_shown_as_kubectl_shows_them_and_deleted() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let url = format!("k8s://127.0.0.1:{}", api.port);
    let put = ["put", "cm", "one", "-f", "-"];
    let file = "metadata: {labels: {app: web}}\ndata:\n  a: '1'\n  b: '2'\n";
    let created = run_with(&url, &put, file).await.good();
    assert!(created.starts_with("core/v1/ConfigMap default/one created (version "), "{created}");
    let updated =
        run_with(&url, &put, r#"{"metadata": {"labels": {"app": "web"}}, "data": {"a": "1"}}"#).await;
    assert!(updated.good().contains(" updated (version "));
    let nowhere = run_with(&url, &["put", "cm", "web/two", "-f", "-"], "{}").await;
    assert_eq!(
        (nowhere.code(), nowhere.err.contains(r#"namespaces "web" not found"#)),
        (1, true),
        "{nowhere:?}"
    );
    run_with(&url, &["put", "ns", "web", "-f", "-"], "{}").await.good();
    run_with(&url, &["put", "v1/ConfigMap", "web/two", "-f", "-"], "{}").await.good();
    let table = run(&url, &["get", "configmaps"]).await.good();
    assert_eq!(words(&table)[0], ["NAME", "DATA", "AGE"]);
    assert_eq!(words(&table)[1][..2], ["one", "1"]);
    let all = run(&url, &["get", "cm", "-A", "-o", "wide"]).await.good();
    assert_eq!(words(&all)[2][..3], ["web", "two", "0"], "{all}");
    let home = scratch.dir("home");
    for arguments in [&["get", "configmaps", "-A"][..], &["get", "cm", "one"], &["get", "ns", "-o", "wide"]]
    {
        let (ok, theirs) = kubectl::run(&kubectls()[0], &api, &home, arguments);
        let ours = run(&url, arguments).await.good();
        let untimed = |text: &str| -> Vec<String> {
            let rows = words(text).into_iter();
            rows.map(|mut row| row.drain(..row.len() - 1).collect::<Vec<_>>().join(" ")).collect()
        };
        assert!(ok && untimed(&ours) == untimed(&theirs), "{arguments:?}\n{ours}\n{theirs}");
    }
    let one = parsed(&run(&url, &["get", "configmap", "one", "-o", "json"]).await.good());
    assert_eq!((&one["kind"], &one["data"]), (&"ConfigMap".into(), &json!({"a": "1"})));
    let list = run(&url, &["get", "cm", "-A", "-l", "app in (web, db)", "-o", "json"]).await.good();
    let items = parsed(&list)["items"].clone();
    assert_eq!(items.as_array().expect("a list").len(), 1);
    assert_eq!((&items[0]["apiVersion"], &items[0]["metadata"]["name"]), (&"v1".into(), &"one".into()));
    let yaml = run(&url, &["get", "cm", "two", "-n", "web", "-o", "yaml"]).await.good();
    assert!(yaml.contains("kind: ConfigMap\n") && yaml.contains("  name: two\n"), "{yaml}");
    let dry = run(&url, &["delete", "cm", "one", "--dry-run"]).await.good();
    assert!(dry.contains("dry run"), "{dry}");
    assert_eq!(run(&url, &["delete", "cm", "one"]).await.good(), "core/v1/ConfigMap default/one deleted\n");
    for args in [&["get", "cm", "one"][..], &["delete", "cm", "one"], &["get", "cm", "-n", "none"]] {
        let missing = run(&url, args).await;
        assert_eq!((missing.code(), missing.out.as_str()), (1, ""), "{args:?}: {missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_told_in_its_own_words() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let url = format!("k8s://127.0.0.1:{}/scopes/local", api.port);
    let put = ["put", "cm", "one", "-f", "-"];
    let version = run_with(&url, &put, "{}").await.good();
    let version = version.rsplit(' ').next().expect("a word").trim_end_matches(")\n").to_owned();
    for (args, input, code, said) in [
        (&[&put[..], &["--create-only"]].concat()[..], "{}", 1, "409 AlreadyExists: "),
        (&[&put[..], &["--if-version", "1"]].concat(), "{}", 1, "409 Conflict: "),
        (&put, r#"{"metadata": {"resourceVersion": "1"}}"#, 1, "the object has been modified"),
        (&put, r#"{"metadata": {"name": "other"}}"#, 1, "400 BadRequest: "),
        (&put, r#"{"dta": {}}"#, 1, r#"unknown field "dta""#),
        (&put, "a: [", 1, "YAML"),
        (&["delete", "cm", "one", "--if-version", "1"], "", 1, "409 Conflict: "),
        (&["delete", "cm", "one", "--if-seq", "1"], "", 64, "--if-version"),
        (&["get", "configmap", "-l", "app in (x"], "", 64, "label selector"),
        (&["get", "configmapz"], "", 1, "did you mean configmaps?"),
        (&["get", "ns", "-n", "web"], "", 64, "--namespace"),
        (&["get", "cm", "--scope", "east"], "", 64, "/scopes/east"),
        (&["pub", "a/b"], "", 64, "over k8s there is no pub"),
        (&["sub", "cm", "--from", "17"], "", 64, "now or snapshot"),
        (&["sub", "configmapz"], "", 1, "did you mean configmaps?"),
        (&["sub", "xds/#"], "", 1, "has no type"),
        (&["sub", "k8s/west/#"], "", 64, "k8s/local/"),
        (&["sub", "values"], "", 64, "over http"),
        (&["get", "pods"], "", 1, "nothing found in the namespace default"),
        (&["sub", "k8s/+/no/v1/Such/#"], "", 1, "has nothing that"),
    ] {
        let refused = run_with(&url, args, input).await;
        assert_eq!(refused.code(), code, "{args:?}: {refused:?}");
        assert!(refused.err.contains(said), "{args:?}: {}", refused.err);
    }
    run_with(&url, &[&put[..], &["--if-version", &version]].concat(), "{}").await.good();
    let elsewhere = format!("k8s://127.0.0.1:{}/scopes/none", api.port);
    let missing = run(&elsewhere, &["get", "cm"]).await;
    let said = missing.err.contains(&format!("127.0.0.1:{}/scopes/none: 404", api.port));
    assert_eq!((missing.code(), said), (1, true), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named_with_exit_code_69() {
    let scratch = Scratch::new();
    let port = free_port();
    let url = format!("k8s://127.0.0.1:{port}");
    let file = scratch.path().join("kubeconfig");
    let kubeconfig = format!("k8s:///?kubeconfig={}", file.display());
    for args in [
        &["get", "pods"][..],
        &["get", "pods", "-w"],
        &["sub", "k8s/#"],
        &["delete", "pod", "a"],
        &["put", "pod", "a", "-f", "-"],
    ] {
        let away = run_with(&url, args, "{}").await;
        assert_eq!((away.code(), away.out.as_str()), (69, ""), "{args:?}: {away:?}");
        assert!(away.err.contains(&format!("http://127.0.0.1:{port}")), "{}", away.err);
        assert!(away.err.contains("refused"), "{}", away.err);
        let nowhere = run_with(&kubeconfig, args, "{}").await;
        assert_eq!(nowhere.code(), 69, "{args:?}: {nowhere:?}");
        assert!(nowhere.err.contains(&file.display().to_string()), "{}", nowhere.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_a_subscription_tell_what_changes_until_they_are_interrupted() {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let url = format!("k8s://127.0.0.1:{}/scopes/local", api.port);
    run_with(&url, &["put", "ns", "web", "-f", "-"], "{}").await.good();
    let put = ["put", "cm", "web/one", "-f", "-"];
    run_with(&url, &put, r#"{"data": {"a": "1"}}"#).await.good();
    let mut rows = Running::start(&url, &["get", "cm", "-A", "-w"]);
    let mut lines = Running::start(&url, &["get", "cm", "one", "-n", "web", "-w", "-o", "json"]);
    let mut events = Running::start(&url, &["sub", "k8s/+/core/v1/ConfigMap/web/#", "--from", "snapshot"]);
    for (change, kind, count) in
        [("added", "ADDED", 1), ("modified", "MODIFIED", 2), ("deleted", "DELETED", 2)]
    {
        match change {
            "modified" => drop(run_with(&url, &put, r#"{"data": {"a": "1", "b": "2"}}"#).await.good()),
            "deleted" => drop(run(&url, &["delete", "cm", "web/one"]).await.good()),
            _ => {}
        }
        let row = [change, "web", "one", &count.to_string()].map(str::to_owned);
        let is_row = |line: &str| words(line)[0][..4].iter().eq(row.iter());
        assert!(rows.shows(is_row, LIMIT).await, "{change}: {:?}", rows.seen);
        let is_line = |line: &str| {
            let value = parsed(line);
            value["type"] == kind && value["object"]["kind"] == "ConfigMap"
        };
        assert!(lines.shows(is_line, LIMIT).await, "{kind}");
        let is_event = |line: &str| {
            let event = parsed(line);
            let kind = format!("dev.meshbus.resource.{change}.v1");
            event["type"] == kind && event["mbtopic"] == "k8s/local/core/v1/ConfigMap/web/one"
        };
        assert!(events.shows(is_event, LIMIT).await, "{change}: {:?}", events.seen);
    }
    assert_eq!(words(&rows.interrupt().await[0])[0], ["CHANGE", "NAMESPACE", "NAME", "DATA", "AGE"]);
    lines.interrupt().await;
    events.interrupt().await;
    let both =
        run(&url, &["sub", "ns,cm", "--from", "snapshot", "-C", "1", "--exact", "name=default"]).await;
    assert_eq!(both.events()[0]["resourcetype"], "core/v1/Namespace");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_server_is_checked_and_a_token_or_a_certificate_shown() {
    let scratch = Scratch::new();
    let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
    let (port, mutual, token) = (free_port(), free_port(), scratch.path().join("token"));
    std::fs::write(&token, "letmein\n").expect("a file");
    let server = |port: u16, more: &str| {
        let own = format!("cert: {tls}/server.pem, key: {tls}/server.key{more}");
        format!("{{k8s: {{server: {{listen: \"127.0.0.1:{port}\", tls: {{{own}}}}}}}}}")
    };
    let config = format!(
        "name: tls\nconnectors:\n  api: {}\n  mutual: {}\naccess: \
         [{{principal: ci, token: {{file: {}}}, allow: [read]}}, {{principal: client, allow: [read]}}]\n",
        server(port, ""),
        server(mutual, &format!(", client_ca: {tls}/ca.pem")),
        token.display()
    );
    let _bus = Bus::start(&scratch, &config).await;
    let (url, mutual) =
        (format!("k8s+https://localhost:{port}"), format!("k8s+https://localhost:{mutual}"));
    let (ca, token) = (format!("tls.ca={tls}/ca.pem"), token.to_str().expect("a path"));
    let trusted = |args: &[&str]| -> Vec<String> {
        args.iter().copied().chain(["--with", &ca]).map(str::to_owned).collect()
    };
    let ask = async |url: &str, args: Vec<String>| {
        run(url, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let stranger = run(&url, &["get", "ns", "--token-file", token]).await;
    assert_eq!((stranger.code(), stranger.err.contains("UnknownIssuer")), (69, true), "{stranger:?}");
    let nobody = ask(&url, trusted(&["get", "ns"])).await;
    assert_eq!((nobody.code(), nobody.err.contains("401 Unauthorized")), (1, true), "{nobody:?}");
    let known = trusted(&["get", "ns", "--token-file", token]);
    assert!(ask(&url, known).await.good().contains("default"));
    let without = ask(&mutual, trusted(&["get", "ns"])).await;
    assert_eq!((without.code(), without.err.contains("CertificateRequired")), (69, true), "{without:?}");
    let (cert, key) = (format!("tls.cert={tls}/client.pem"), format!("tls.key={tls}/client.key"));
    let shown = ["--with", &cert, "--with", &key];
    ask(&mutual, trusted(&[&["get", "ns"], &shown[..]].concat())).await.good();
    let denied = ask(&mutual, trusted(&[&["delete", "ns", "default"], &shown[..]].concat())).await;
    let said =
        denied.err.contains("403 Forbidden") && denied.err.contains(r#"User "client" cannot delete"#);
    assert_eq!((denied.code(), said), (1, true), "{denied:?}");
}

/// A hostile server and the words for it: the context of its kubeconfig.
async fn hostile(scratch: &Scratch, options: Options) -> (Hostile, String) {
    let seed = std::env::var("MESHBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let hostile = Hostile::start(seed.unwrap_or_else(|| fastrand::u64(..)), options).await;
    let file = scratch.path().join("kubeconfig");
    std::fs::write(&file, hostile.kubeconfig()).expect("a file");
    let url = format!("k8s:///?context=hostile&kubeconfig={}", file.display());
    (hostile, url)
}

fn options() -> Options {
    Options { token: Some("letmein".to_owned()), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_many_pages_is_whole_also_where_its_pages_expire() {
    const OBJECTS: usize = 1_700;
    let scratch = Scratch::new();
    let (hostile, url) = hostile(&scratch, options()).await;
    for n in 0..OBJECTS {
        hostile.create("ConfigMap", "default", &format!("c-{n:04}"), json!({"data": {}}));
    }
    let names = |table: &str| words(table).iter().skip(1).map(|row| row[0].to_owned()).collect::<Vec<_>>();
    let expected: Vec<String> = (0..OBJECTS).map(|n| format!("c-{n:04}")).collect();
    let table = run(&url, &["get", "cm"]).await.good();
    assert_eq!(words(&table)[0], ["NAME", "AGE"]);
    assert!(names(&table) == expected, "{table}");
    hostile.force(Fault::PageExpiry, 2);
    assert!(names(&run(&url, &["get", "cm"]).await.good()) == expected);
    hostile.force(Fault::PageExpiry, 1_000);
    assert!(names(&run(&url, &["get", "cm"]).await.good()) == expected);
    let direct = hostile.url().replace("http://", "k8s://");
    let refused = run(&direct, &["get", "cm"]).await;
    assert_eq!((refused.code(), refused.err.contains("401 Unauthorized")), (1, true), "{refused:?}");
    let token = scratch.path().join("token");
    std::fs::write(&token, "letmein\n").expect("a file");
    let token = token.to_str().expect("a path");
    run(&direct, &["get", "cm", "c-0001", "--token-file", token]).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_a_subscription_outlive_breaks_restarts_and_forgotten_positions() {
    let scratch = Scratch::new();
    let kinds = vec![Kind::custom("example.com", "v1", "Widget", "widgets")];
    let (hostile, url) = hostile(&scratch, Options { kinds, ..options() }).await;
    hostile.create("Widget", "default", "w-0", json!({"spec": {}}));
    let mut rows = Running::start(&url, &["get", "widgets", "-w"]);
    let mut events = Running::start(&url, &["sub", "widgets", "--from", "snapshot"]);
    let row = |change: &str, name: &str| {
        let wanted = [change.to_owned(), name.to_owned()];
        move |line: &str| words(line)[0][..2].iter().eq(wanted.iter())
    };
    let told = |change: &str, name: &str| {
        let (kind, name) = (format!("dev.meshbus.resource.{change}.v1"), format!("default/{name}"));
        move |line: &str| {
            let event = parsed(line);
            event["type"] == kind && event["resourcename"] == name
        }
    };
    assert!(
        rows.shows(row("added", "w-0"), LIMIT).await && events.shows(told("added", "w-0"), LIMIT).await
    );
    for n in 1..=4 {
        let (new, old) = (format!("w-{n}"), format!("w-{}", n - 1));
        match n {
            1 => hostile.disconnect(),
            2 => hostile.restart().await,
            // The position is gone while nobody watches.
            3 => {
                hostile.stop().await;
                hostile.lose_history();
            }
            _ => hostile.lose_history(),
        }
        hostile.create("Widget", "default", &new, json!({"spec": {}}));
        hostile.delete("Widget", "default", &old);
        if n == 3 {
            hostile.lose_history();
            hostile.go_on().await;
        }
        for (change, name) in [("added", &new), ("deleted", &old)] {
            assert!(rows.has_shown(row(change, name), LIMIT).await, "{change} {name}: {:?}", rows.seen);
            assert!(
                events.has_shown(told(change, name), LIMIT).await,
                "{change} {name}: {:?}",
                events.seen
            );
        }
    }
    let (_, said) = rows.interrupt_noted().await;
    assert!(said.contains("connecting again"), "{said}");
    events.interrupt_noted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_replaces_what_must_name_its_version_and_keeps_to_a_condition() {
    let scratch = Scratch::new();
    let (hostile, url) = hostile(&scratch, options()).await;
    hostile.create("Widget", "default", "w", json!({"spec": {"color": "red"}}));
    let put = ["put", "widget", "w", "-f", "-"];
    run_with(&url, &put, "spec: {color: blue}").await.good();
    assert_eq!(hostile.objects("Widget")["default/w"].value["spec"]["color"], "blue");
    let stale = run_with(&url, &[&put[..], &["--if-version", "1"]].concat(), "{}").await;
    assert_eq!((stale.code(), stale.err.contains("409 Conflict")), (1, true), "{stale:?}");
    hostile.patch("Widget", "default", "w", &json!({"metadata": {"finalizers": ["example.com/held"]}}));
    let held = run(&url, &["delete", "widgets.example.com", "w"]).await.good();
    assert!(held.contains("is being deleted"), "{held}");
    hostile.stop().await;
    let away = run(&url, &["get", "widgets"]).await;
    assert_eq!((away.code(), away.err.contains(&hostile.url())), (69, true), "{away:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_only_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let kinds = vec![Kind::custom("", "v1", "Secret", "secrets")];
    let (hostile, url) = hostile(&scratch, Options { kinds, ..options() }).await;
    hostile.create("Secret", "default", "s", json!({"data": {"password": "aHVudGVyMg=="}}));
    for args in [&["get", "secrets", "-o", "json"][..], &["get", "secret", "s"], &["sub", "secrets"]] {
        let refused = run(&url, args).await;
        assert_eq!((refused.code(), refused.out.as_str()), (64, ""), "{args:?}: {refused:?}");
        assert!(refused.err.contains("allow_secrets"), "{}", refused.err);
        assert!(!refused.err.contains("watch["), "{}", refused.err);
    }
    let read = hostile.requests().iter().any(|request| format!("{request:?}").contains("/secrets"));
    assert!(!read, "secrets were asked for");
    let allowed = ["get", "secret", "s", "-o", "json", "--with", "allow_secrets=true"];
    assert!(run(&url, &allowed).await.good().contains("aHVudGVyMg=="));
    let now = run(&url, &["sub", "ns", "--timeout", "3s"]).await;
    assert_eq!((now.code(), now.out.as_str()), (1, ""), "what is there already is not new");
    let all = ["sub", "k8s/#", "--from", "snapshot", "--timeout", "5s", "-o", "raw"];
    assert!(!run(&url, &all).await.good().contains("aHVudGVyMg=="));
    let allowed = ["sub", "secrets", "--from", "snapshot", "-C", "1", "--with", "allow_secrets=true"];
    assert_eq!(run(&url, &allowed).await.events()[0]["resourcename"], "default/s");
}

/// Whatever strikes, what was told adds up to what there is.
#[tokio::test(flavor = "multi_thread")]
async fn under_every_fault_a_watch_and_a_subscription_end_with_the_truth() {
    const OBJECTS: usize = 150;
    let scratch = Scratch::new();
    let (hostile, url) = hostile(&scratch, options()).await;
    let mut lines = Running::start(&url, &["get", "widgets", "-w", "-o", "json"]);
    let mut events = Running::start(&url, &["sub", "widgets", "--from", "snapshot"]);
    hostile.create("Widget", "default", "first", json!({"spec": {}}));
    assert!(lines.shows(|line| line.contains("first"), LIMIT).await, "{:?}", lines.seen);
    assert!(events.shows(|line| line.contains("first"), LIMIT).await, "{:?}", events.seen);
    for fault in FAULTS {
        hostile.set_fault(fault, 0.05);
    }
    for n in 0..OBJECTS {
        hostile.create("Widget", "default", &format!("w-{n}"), json!({"spec": {"n": n}}));
        if n % 3 == 0 {
            hostile.delete("Widget", "default", &format!("w-{}", n / 2));
        }
        sleep(Duration::from_millis(5)).await;
    }
    hostile.quiet();
    hostile.create("Widget", "default", "last", json!({"spec": {}}));
    let truth: BTreeSet<String> = hostile.objects("Widget").into_keys().collect();
    let of_line = |line: &Value| {
        let name = line["object"]["metadata"]["name"].as_str().expect("a name");
        (format!("default/{name}"), line["type"] == "DELETED")
    };
    let of_event = |event: &Value| {
        let name = event["resourcename"].as_str().expect("a name").to_owned();
        (name, event["type"] == "dev.meshbus.resource.deleted.v1")
    };
    adds_up(&mut lines, of_line, &truth).await;
    adds_up(&mut events, of_event, &truth).await;
    println!("faults: {:?}", hostile.score());
    lines.interrupt_noted().await;
    events.interrupt_noted().await;
}

/// Waits until what was told, each line a name and whether it went, is the truth.
async fn adds_up(running: &mut Running, read: impl Fn(&Value) -> (String, bool), truth: &BTreeSet<String>) {
    let (mut known, mut at) = (BTreeSet::new(), 0);
    loop {
        for line in &running.seen[at..] {
            let (name, gone) = read(&parsed(line));
            let _known_before = if gone { known.remove(&name) } else { known.insert(name) };
        }
        at = running.seen.len();
        if known == *truth {
            return;
        }
        let more = running.shows(|_| true, LIMIT).await;
        assert!(more, "too many: {:?}\ntoo few: {:?}", known.difference(truth), truth.difference(&known));
    }
}
