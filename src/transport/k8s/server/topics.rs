//! The topics on which the changes of a kind travel, as a filter by which the bus finds who wants a change.

use crate::core::Key;
use crate::core::selector::TopicFilter;
use crate::core::topic::escape;
use crate::schema::kinds::proto_name;

use super::kind::{Form, Kind};

/// The topics of a kind's keys: of all, of those in a namespace, or of one. `None` where they may be anywhere.
pub(super) fn filter_of(
    kind: &Kind,
    scope: &str,
    namespace: &str,
    name: Option<&str>,
) -> Option<TopicFilter> {
    // A segment that only stands for a name says nothing of its topic.
    let name = name.filter(|name| crate::core::spelling::path_segment(name) == *name);
    let last = name.map_or_else(|| "+".to_owned(), |name| escape(name).into_owned());
    let text = match kind.form {
        Form::Occurrence => return None,
        Form::Object | Form::Event => {
            let mut parts = kind.stored_as.splitn(3, '/');
            let (group, version, stored) = (parts.next()?, parts.next()?, parts.next()?);
            let namespace = match namespace {
                "" if kind.definition.namespaced => "+".to_owned(),
                "" => "_".to_owned(),
                namespace => escape(namespace).into_owned(),
            };
            let words = [scope, group, version, stored].map(escape);
            format!("k8s/{}/{namespace}/{last}", words.join("/"))
        }
        Form::Made => match proto_name(&kind.stored_as) {
            Some(message) => format!("xds/{}/{}/{last}", escape(scope), escape(message)),
            None if kind.stored_as == Key::VALUE => return None,
            None => match kind.definition.plural.as_str() {
                "flows" => "flows/#".to_owned(),
                plural => format!("bus/{}/#", escape(plural)),
            },
        },
    };
    TopicFilter::parse_mqtt(&text).ok()
}
