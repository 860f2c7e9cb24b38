//! The kinds the hostile API server knows, and how a path names one.

use percent_encoding::percent_decode_str;

/// One kind and how it behaves.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "group, version and kind are the protocol's words")]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) namespaced: bool,
    /// Whether there is a `status` subresource, which the main verbs then do not touch.
    pub(crate) status: bool,
    /// Whether `metadata.generation` counts changes of the specification.
    pub(crate) generation: bool,
    /// Whether it is a custom resource: no strategic merge patch, and its list items name their kind.
    pub(crate) custom: bool,
    /// Whether a PUT without a resource version overwrites.
    pub(crate) unconditional: bool,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`.
    pub(crate) selectable: Vec<String>,
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index into the table of kinds.
    pub(crate) kind: usize,
    /// Whether Events go over the wire as `events.k8s.io/v1`.
    pub(crate) events_v1: bool,
    /// `None` is all namespaces, or a cluster-scoped kind.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// The deprecated `/watch/` path.
    pub(crate) watch: bool,
}

/// Index of Event in every table.
pub(crate) const EVENT: usize = 0;
/// Index of Namespace in every table.
pub(crate) const NAMESPACE: usize = 1;
/// The other group that serves Events.
pub(crate) const EVENTS_GROUP: &str = "events.k8s.io";

/// Field selectors of Events as core/v1.
const CORE_EVENT_FIELDS: [&str; 11] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
/// Field selectors of Events as events.k8s.io/v1, with the core field each reads.
pub(crate) const EVENTS_V1_FIELDS: [(&str, &str); 10] = [
    ("regarding.kind", "involvedObject.kind"),
    ("regarding.namespace", "involvedObject.namespace"),
    ("regarding.name", "involvedObject.name"),
    ("regarding.uid", "involvedObject.uid"),
    ("regarding.apiVersion", "involvedObject.apiVersion"),
    ("regarding.resourceVersion", "involvedObject.resourceVersion"),
    ("regarding.fieldPath", "involvedObject.fieldPath"),
    ("reason", "reason"),
    ("reportingController", "reportingComponent"),
    ("type", "type"),
];
const POD_FIELDS: [&str; 8] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];

impl Kind {
    /// A namespaced custom kind with a status subresource.
    pub(crate) fn custom(group: &str, version: &str, kind: &str, plural: &str) -> Self {
        let mut kind = Self::builtin(group, version, kind, plural, &[]);
        kind.status = true;
        kind.generation = true;
        kind.custom = true;
        kind.unconditional = false;
        kind
    }

    /// The same, in no namespace.
    pub(crate) fn cluster_scoped(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// The same, with these field selectors, such as `spec.color`.
    pub(crate) fn selectable(mut self, fields: &[&str]) -> Self {
        self.selectable = fields.iter().map(|field| (*field).to_owned()).collect();
        self
    }

    fn builtin(group: &str, version: &str, kind: &str, plural: &str, short_names: &[&str]) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            short_names: short_names.iter().map(|name| (*name).to_owned()).collect(),
            namespaced: true,
            status: false,
            generation: false,
            custom: false,
            unconditional: true,
            selectable: Vec::new(),
        }
    }

    /// `v1`, or `example.com/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The resource as error messages name it: `pods`, or `widgets.example.com`.
    pub(crate) fn resource(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// The kind as error messages name it: `Pod`, or `Widget.example.com`.
    pub(crate) fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    /// The key of an object in storage, which is also the order of lists.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }
}

fn qualified(word: &str, group: &str) -> String {
    if group.is_empty() { word.to_owned() } else { format!("{word}.{group}") }
}

/// The table: what every cluster has, then `custom`.
pub(crate) fn table(custom: &[Kind]) -> Vec<Kind> {
    let mut event = Kind::builtin("", "v1", "Event", "events", &["ev"]);
    event.selectable = CORE_EVENT_FIELDS.iter().map(|field| (*field).to_owned()).collect();
    let mut namespace = Kind::builtin("", "v1", "Namespace", "namespaces", &["ns"]).cluster_scoped();
    namespace.selectable = vec!["status.phase".to_owned()];
    namespace.status = true;
    let mut pod = Kind::builtin("", "v1", "Pod", "pods", &["po"]).selectable(&POD_FIELDS);
    (pod.status, pod.generation) = (true, true);
    let mut deployment = Kind::builtin("apps", "v1", "Deployment", "deployments", &["deploy"]);
    (deployment.status, deployment.generation) = (true, true);
    let mut lease = Kind::builtin("coordination.k8s.io", "v1", "Lease", "leases", &[]);
    lease.unconditional = false;
    let config_map = Kind::builtin("", "v1", "ConfigMap", "configmaps", &["cm"]);
    let mut kinds = vec![event, namespace, pod, config_map, deployment, lease];
    kinds.extend_from_slice(custom);
    kinds
}

/// Reads a resource path; `None` names nothing served.
///
/// Segments are decoded after they are split, so an escaped slash stays part of a name.
pub(crate) fn target(kinds: &[Kind], path: &str, events_v1: bool) -> Option<Target> {
    let decoded: Vec<String> = path
        .strip_prefix('/')?
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (watch, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let as_v1 = group == EVENTS_GROUP && version == "v1";
    let find = |plural: &str| {
        if as_v1 {
            return (events_v1 && plural == "events").then_some(EVENT);
        }
        let is = |kind: &Kind| kind.group == group && kind.version == version && kind.plural == plural;
        kinds.iter().position(is)
    };
    let target = |kind: usize, namespace: Option<&str>, name: Option<&str>, sub: Option<&str>| Target {
        kind,
        events_v1: as_v1,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        subresource: sub.map(str::to_owned),
        watch,
    };
    let found = match rest {
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            target(NAMESPACE, None, Some(name), Some(sub))
        }
        ["namespaces", namespace, plural, rest @ ..] => {
            let (name, sub) = name_and_subresource(rest)?;
            let kind = find(plural).filter(|kind| kinds[*kind].namespaced)?;
            target(kind, Some(namespace), name, sub)
        }
        [plural, rest @ ..] => {
            let (name, sub) = name_and_subresource(rest)?;
            let kind = find(plural).filter(|kind| name.is_none() || !kinds[*kind].namespaced)?;
            target(kind, None, name, sub)
        }
        [] => return None,
    };
    let known = match found.subresource.as_deref() {
        None => true,
        Some("status") => kinds[found.kind].status,
        Some("finalize") => found.kind == NAMESPACE,
        Some(_) => false,
    };
    known.then_some(found)
}

fn name_and_subresource<'a>(rest: &[&'a str]) -> Option<(Option<&'a str>, Option<&'a str>)> {
    match rest {
        [] => Some((None, None)),
        [name] if !name.is_empty() => Some((Some(name), None)),
        [name, sub] => Some((Some(name), Some(sub))),
        _ => None,
    }
}
