//! The cells of a pod's row: how its containers are, taken together.

use serde_json::Value;

use super::table::{at, since};

/// The containers of one list of statuses.
fn statuses<'p>(pod: &'p Value, list: &str) -> impl DoubleEndedIterator<Item = &'p Value> {
    let list = pod.get("status").and_then(|status| status.get(list)).and_then(Value::as_array);
    list.map_or(&[][..], Vec::as_slice).iter()
}

fn containers<'p>(pod: &'p Value, list: &str) -> &'p [Value] {
    let list = pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
    list.map_or(&[][..], Vec::as_slice)
}

/// Whether a container that runs first keeps running beside the others.
fn is_sidecar(pod: &Value, name: &str) -> bool {
    containers(pod, "initContainers")
        .iter()
        .any(|container| at(container, "/name") == name && at(container, "/restartPolicy") == "Always")
}

fn is_true(value: &Value, name: &str) -> bool {
    value.get(name) == Some(&Value::Bool(true))
}

/// `1/2`: how many of the containers that stay serve.
pub(super) fn ready(pod: &Value) -> String {
    let sidecars = |status: &&Value| is_sidecar(pod, at(status, "/name"));
    let all = containers(pod, "containers").len().saturating_add(
        containers(pod, "initContainers").iter().filter(|c| at(c, "/restartPolicy") == "Always").count(),
    );
    let running = statuses(pod, "containerStatuses")
        .filter(|status| is_true(status, "ready") && status.pointer("/state/running").is_some());
    let beside = statuses(pod, "initContainerStatuses")
        .filter(sidecars)
        .filter(|status| is_true(status, "started") && is_true(status, "ready"));
    format!("{}/{all}", running.count().saturating_add(beside.count()))
}

/// `Running`, `Init:0/1`, `CrashLoopBackOff`, `Terminating`, …
pub(super) fn status(pod: &Value) -> String {
    let phase = at(pod, "/status/phase");
    let mut reason = match at(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if has_condition(pod, "PodScheduled", "False", Some("SchedulingGated")) {
        "SchedulingGated".clone_into(&mut reason);
    }
    let initializing = initializing(pod);
    match &initializing {
        Some(first) if !has_condition(pod, "Initialized", "True", None) => reason.clone_from(first),
        _ => of_containers(pod, &mut reason),
    }
    let deleting = pod.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    match (deleting, at(pod, "/status/reason"), phase) {
        (true, "NodeLost", _) => "Unknown".to_owned(),
        (true, _, "Failed" | "Succeeded") | (false, ..) => reason,
        (true, ..) => "Terminating".to_owned(),
    }
}

/// The first container that runs first and is not done; `None` where all are.
fn initializing(pod: &Value) -> Option<String> {
    let total = containers(pod, "initContainers").len();
    for (done, status) in statuses(pod, "initContainerStatuses").enumerate() {
        let terminated = status.pointer("/state/terminated");
        let exit = terminated.and_then(|ended| ended.get("exitCode")).and_then(Value::as_i64);
        if exit == Some(0) || is_sidecar(pod, at(status, "/name")) && is_true(status, "started") {
            continue;
        }
        let waiting = at(status, "/state/waiting/reason");
        return Some(match terminated {
            Some(ended) => format!("Init:{}", ended_as(ended)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{done}/{total}"),
        });
    }
    None
}

fn of_containers(pod: &Value, reason: &mut String) {
    let mut running = false;
    for status in statuses(pod, "containerStatuses").rev() {
        let waiting = at(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            waiting.clone_into(reason);
        } else if let Some(ended) = status.pointer("/state/terminated").filter(|ended| ended.is_object()) {
            *reason = ended_as(ended);
        } else if is_true(status, "ready") && status.pointer("/state/running").is_some() {
            running = true;
        }
    }
    // One that is done does not hide that another runs.
    if reason == "Completed" && running {
        let ready = has_condition(pod, "Ready", "True", None);
        if ready { "Running" } else { "NotReady" }.clone_into(reason);
    }
}

/// `OOMKilled`, `Signal:9`, `ExitCode:1`
fn ended_as(ended: &Value) -> String {
    let number = |name: &str| ended.get(name).and_then(Value::as_i64).unwrap_or(0);
    match (at(ended, "/reason"), number("signal")) {
        ("", 0) => format!("ExitCode:{}", number("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// `3 (5m ago)`: of those that run first until they are done, then of the others.
pub(super) fn restarts(pod: &Value, now: i64) -> String {
    let count = |status: &Value| status.get("restartCount").and_then(Value::as_i64).unwrap_or(0);
    let last = |status: &Value| at(status, "/lastState/terminated/finishedAt").to_owned();
    let tell = |of: Vec<&Value>| {
        let sum = of.iter().map(|status| count(status)).fold(0i64, i64::saturating_add);
        let latest = of.iter().map(|status| last(status)).max().unwrap_or_default();
        if sum == 0 || latest.is_empty() {
            return sum.to_string();
        }
        format!("{sum} ({} ago)", since(Some(&Value::from(latest)), now))
    };
    let first = initializing(pod).is_some() && !has_condition(pod, "Initialized", "True", None);
    if first {
        return tell(statuses(pod, "initContainerStatuses").collect());
    }
    let beside =
        statuses(pod, "initContainerStatuses").filter(|status| is_sidecar(pod, at(status, "/name")));
    tell(beside.chain(statuses(pod, "containerStatuses")).collect())
}

/// `1/2`: how many of the conditions it waits for hold; empty where it waits for none.
pub(super) fn gates(pod: &Value) -> String {
    let gates = containers(pod, "readinessGates");
    if gates.is_empty() {
        return String::new();
    }
    let held =
        gates.iter().filter(|gate| has_condition(pod, at(gate, "/conditionType"), "True", None)).count();
    format!("{held}/{}", gates.len())
}

fn has_condition(pod: &Value, kind: &str, status: &str, reason: Option<&str>) -> bool {
    statuses(pod, "conditions").any(|condition| {
        at(condition, "/type") == kind
            && at(condition, "/status") == status
            && reason.is_none_or(|reason| at(condition, "/reason") == reason)
    })
}
