//! Every kubectl there is does what it does with a real API server, and prints the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::recordings::folder;
use super::rig::{Api, kubectls};
use crate::process::Scratch;

const LIMIT: Duration = Duration::from_mins(6);

/// How much slower a second try goes.
const SLOWER: u32 = 4;

/// Runs a script whose pauses are longer: `bash -c RUN SCRIPT ARGUMENTS`. Its own words stay as they are.
const RUN: &str = r#"
sleep() { command sleep $(($1 * PACE)); }
timeout() { command timeout $(($1 * PACE)) "${@:2}"; }
export -f sleep timeout
exec bash "$0" "$@" 2>&1
"#;

/// Scenarios whose output may differ: the server's own version and kinds, what a cluster adds to a Pod, the clock.
const OTHER: [&str; 8] = [
    "version",
    "api-resources",
    "api-versions",
    "pod-describe",
    "auth-whoami",
    "cr-diff",
    // Ages of Events are those of the day of the recording.
    "event-get",
    "event-get-v1",
];

pub(crate) fn version(program: &Path) -> String {
    let output =
        Command::new(program).args(["version", "--client"]).env("KUBECONFIG", "/dev/null").output();
    let text = String::from_utf8_lossy(&output.expect("kubectl runs").stdout).into_owned();
    let at = text.find("v1.").unwrap_or_else(|| panic!("{}: no version in {text:?}", program.display()));
    text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect()
}

/// Runs the script, its pauses that many times as long.
async fn scenarios(program: &Path, script: &Path, pace: u32) -> String {
    let scratch = Scratch::new();
    let api = Api::start(&scratch, "").await;
    let mut command = tokio::process::Command::new("bash");
    // What is said on either stream is compared, in its order.
    command.args(["-c", RUN]).arg(script).arg(program).arg(api.url()).env("PACE", pace.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("scenarios end").expect("bash runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kubectl_prints_what_it_prints_of_a_real_server() {
    let Some(folder) = folder() else {
        println!("skipped, needs ../shared/conformance/k8s: kubectl-scenarios.sh");
        return;
    };
    let script = folder.join("kubectl-scenarios.sh");
    // Most of a run is waiting, so they go side by side, each with a bus of its own.
    let programs = kubectls();
    let runs = join_all(programs.iter().map(|program| scenarios(program, &script, 1))).await;
    let mut differing = Vec::new();
    for (program, output) in programs.iter().zip(runs) {
        let version = version(program);
        let differences = differences(&version, &output, &folder);
        if !differences.is_empty() {
            // The script gives a watch two seconds to begin, which is too little where many programs start at once. What is
            // wrong is wrong at any pace.
            println!("kubectl {version} again, slower; it differed:\n{differences}");
            differing.push((program, version));
        }
    }
    let runs = join_all(differing.iter().map(|(program, _)| scenarios(program, &script, SLOWER))).await;
    let again = differing.iter().zip(runs);
    let wrong: String =
        again.map(|((_, version), output)| differences(version, &output, &folder)).collect();
    assert!(wrong.is_empty(), "{wrong}");
}

/// Where what a kubectl printed is not what was recorded; empty where it is.
fn differences(version: &str, output: &str, folder: &Path) -> String {
    let expected = if version.starts_with("v1.20.") { "kubectl-1.20.out" } else { "kubectl-1.32.out" };
    let expected = std::fs::read_to_string(folder.join(expected)).expect("what was recorded");
    let (expected, actual) = (sections(&expected), sections(output));
    let mut wrong = String::new();
    for name in expected.keys().filter(|name| !OTHER.contains(&name.as_str())) {
        let (want, have) = (&expected[name], actual.get(name).cloned().unwrap_or_default());
        if *want != have && !is_of_client(version, name) {
            let _infallible = writeln!(wrong, "{version} {name}:\n  real: {want:#?}\n  here: {have:#?}");
        }
    }
    println!("kubectl {version}: {} scenarios", expected.len() - OTHER.len());
    wrong
}

/// A background command of the script prints in the first or in the second of these scenarios: they are one.
const IN_EITHER: [&str; 2] = ["cr-wait", "pod-create"];

/// Output that another release of kubectl words itself, whatever the server said.
fn is_of_client(version: &str, scenario: &str) -> bool {
    let minor: u32 = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    match scenario {
        _ if minor == 32 || minor == 20 => false,
        // `--subresource` of patch and the columns of explain came one by one.
        "cr-explain" | "event-kubectl-events" => minor < 30,
        "cr-annotate" => minor < 28,
        _ => false,
    }
}

/// What each scenario printed, with times, ages, ids and versions set aside.
fn sections(output: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in output.lines() {
        match line.strip_prefix("== ") {
            Some(next) => {
                let next = next.trim();
                (if next == IN_EITHER[1] { IN_EITHER[0] } else { next }).clone_into(&mut name);
            }
            None if name.is_empty() => continue,
            None => {}
        }
        let lines = sections.entry(name.clone()).or_default();
        if !line.starts_with("== ") {
            lines.push(line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
        }
    }
    if let Some(either) = sections.get_mut(IN_EITHER[0]) {
        either.sort();
    }
    sections
}

fn word(word: &str) -> &str {
    let age = word.trim_matches(|c| matches!(c, '(' | ')' | ','));
    let is_age = age.len() >= 2
        && age.starts_with(|c: char| c.is_ascii_digit())
        && age.ends_with(['s', 'm', 'h', 'd', 'y'])
        && age.chars().all(|c| c.is_ascii_digit() || matches!(c, 's' | 'm' | 'h' | 'd' | 'y'));
    let is_time = word.len() >= 20 && word.contains('T') && word.trim_end_matches('"').ends_with('Z');
    let is_uid = word.len() == 36 && word.matches('-').count() == 4;
    let is_seq = word.len() >= 3 && word.chars().all(|c| c.is_ascii_digit());
    if is_age || is_time || is_uid || is_seq { "~" } else { word }
}

/// One command, its output as text.
pub(crate) fn run(program: &Path, api: &Api, home: &Path, arguments: &[&str]) -> (bool, String) {
    run_at(program, &api.url(), home, arguments)
}

/// The same at a URL.
pub(crate) fn run_at(program: &Path, server: &str, home: &Path, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = Command::new(program)
        .args(arguments)
        .args(["--server", server])
        .env("KUBECONFIG", "/dev/null")
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .expect("kubectl runs");
    let text = [stdout, stderr].concat();
    (status.success(), String::from_utf8_lossy(&text).into_owned())
}
