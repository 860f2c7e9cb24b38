//! What the client's settings take, and what they say of what is wrong.

use super::*;

fn read(text: &str) -> Result<ClientConfig, String> {
    let section = Section::from_yaml("f.yaml", text).map_err(|error| error.to_string())?;
    ClientConfig::from_section(&section).map_err(|error| error.to_string())
}

#[test]
fn the_example_of_the_design_is_read() {
    let config = read(
        "kubeconfig: ~/.kube/config\ncontext: east\ncursor: {store: file}\n\
         leader_election: {namespace: mesh, name: meshbus}\nwatch:\n\
         - {type: core/v1/Event, field_selector: \"type=Warning,involvedObject.kind!=Pod\", start: {since: 10m}}\n\
         - {type: apps/v1/Deployment, namespaces: [web], label_selector: \"app in (a,b)\"}",
    )
    .unwrap();
    assert_eq!(config.watch[0].start, Start::Since(Duration::from_secs(600)));
    assert_eq!(config.watch[1].namespaces, ["web"]);
    assert_eq!(config.lease(), Some(("mesh", "meshbus")));
    assert_eq!(read("watch: [{type: v1/Event}]").unwrap().watch[0].type_url, "core/v1/Event");
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    for (text, names, hints) in [
        ("contxt: a", "contxt", "context"),
        ("watch: [{type: pods}]", "watch[0].type", "v1/Pod"),
        ("watch: [{type: v1/pods}]", "watch[0].type", "capital"),
        ("watch: [{type: v1/Secret}]", "watch[0].type", "allow_secrets: true"),
        ("watch: [{type: v1/Pod, labelSelector: a}]", "labelSelector", "label_selector"),
        ("watch: [{type: v1/Pod, start: now}]", "watch[0].start", "Events"),
        ("watch: [{type: v1/Pod, namespaces: [A_b]}]", "namespaces[0]", "lower-case"),
        ("watch: [{type: v1/Pod, label_selector: ' '}]", "label_selector", "leave it away"),
        ("watch: [{type: v1/Event}, {type: events.k8s.io/v1/Event}]", "watch[1].type", "one entry"),
        ("cursor: {store: lease}", "cursor", "leader_election"),
        ("cursor: {store: none, path: /a}", "cursor.path", "file"),
        ("cursor: {name: a, namespace: b}", "cursor", "store: lease"),
        ("page_size: 0", "page_size", "1 to"),
        ("timeout: 5ms", "timeout", "30s"),
        ("field_manager: ''", "field_manager", "meshbus"),
        ("leader_election: {namespace: a, name: b, retry_period: 9s}", "leader_election", "2s"),
        ("frequency: {burst: 0, per: 5m}", "frequency", "burst: 25"),
        ("enrich: {}", "enrich", "labels"),
        ("token: {env: T}", "token", "goes with url"),
        ("{url: 'http://a', context: b}", "context", "already"),
        ("url: a:1", "url", "https://"),
        ("url: 'http://u:p@a'", "url", "https://"),
        ("{url: 'http://a', tls: {ca: a.pem}}", "tls", "https://"),
        ("{url: 'https://a', tls: {key: a.pem}}", "tls", "together"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(names) && error.contains(hints), "{text}: {error}");
    }
}
