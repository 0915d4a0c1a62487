//! Who sends: the attributes that stand once over all spans and metrics.

use std::hash::{BuildHasher, RandomState};

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as Encoded;

/// Attributes in order; a key occurs once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resource {
    attributes: Vec<(String, ResourceValue)>,
}

/// The kinds of values that a resource has here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResourceValue {
    Text(String),
    Integer(i64),
}

impl From<String> for ResourceValue {
    fn from(text: String) -> ResourceValue {
        ResourceValue::Text(text)
    }
}

impl From<&str> for ResourceValue {
    fn from(text: &str) -> ResourceValue {
        ResourceValue::Text(text.to_owned())
    }
}

impl Resource {
    /// Describes this process, under a name that says that nobody gave it one.
    pub(crate) fn detect() -> Resource {
        let executable = std::env::current_exe().ok();
        let executable = executable
            .as_deref()
            .and_then(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned());
        let mut resource = Resource {
            attributes: Vec::new(),
        };
        let service = match &executable {
            Some(name) => format!("unknown_service:{name}"),
            None => "unknown_service".to_owned(),
        };
        resource.set("service.name", service);
        resource.set("service.instance.id", random_uuid());
        resource.set(
            "process.pid",
            ResourceValue::Integer(std::process::id().into()),
        );
        if let Some(name) = executable {
            resource.set("process.executable.name", name);
        }
        if let Some(host) = host_name() {
            resource.set("host.name", host);
        }
        resource.set("telemetry.sdk.language", "rust");
        resource.set("telemetry.sdk.name", "tracing-cortex");
        resource.set("telemetry.sdk.version", env!("CARGO_PKG_VERSION"));
        resource
    }

    /// Sets one attribute, over what it was.
    pub(crate) fn set(&mut self, key: impl Into<String>, value: impl Into<ResourceValue>) {
        let (key, value) = (key.into(), value.into());
        match self.attributes.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.attributes.push((key, value)),
        }
    }

    /// Returns the text of an attribute.
    #[cfg(test)]
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find_map(|(known, value)| match value {
                ResourceValue::Text(text) if known == key => Some(text.as_str()),
                _ => None,
            })
    }

    /// Returns the resource as the messages carry it.
    pub(crate) fn encode(&self) -> Encoded {
        let attributes = self.attributes.iter().map(|(key, value)| KeyValue {
            key: key.clone(),
            value: Some(AnyValue {
                value: Some(match value {
                    ResourceValue::Text(text) => any_value::Value::StringValue(text.clone()),
                    ResourceValue::Integer(number) => any_value::Value::IntValue(*number),
                }),
            }),
            ..KeyValue::default()
        });
        Encoded {
            attributes: attributes.collect(),
            ..Encoded::default()
        }
    }
}

/// Returns a version 4 UUID. The standard library's hash keys come from the operating system once per thread, and no
/// two `RandomState` are equal.
fn random_uuid() -> String {
    let random = || u128::from(RandomState::new().hash_one(std::process::id()));
    let bits = random() << 64 | random();
    let bits = bits & !(0xF << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Returns the name of the machine where it costs no system call of its own.
fn host_name() -> Option<String> {
    let name = if cfg!(target_os = "linux") {
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?
    } else {
        std::env::var("COMPUTERNAME").ok()?
    };
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_names_the_process_and_sets_each_key_once() {
        let mut resource = Resource::detect();
        assert!(
            resource
                .text("service.name")
                .is_some_and(|name| name.starts_with("unknown_service:"))
        );
        resource.set("service.name", "shop");
        resource.set("service.name", "checkout");
        let encoded = resource.encode();
        let keys = encoded.attributes.iter().map(|entry| entry.key.as_str());
        assert_eq!(keys.filter(|key| *key == "service.name").count(), 1);
        assert_eq!(resource.text("service.name"), Some("checkout"));
        assert_eq!(resource.text("telemetry.sdk.language"), Some("rust"));
        assert!(
            resource
                .attributes
                .iter()
                .any(|(key, value)| key == "process.pid"
                    && *value == ResourceValue::Integer(std::process::id().into()))
        );
    }

    #[test]
    fn instance_ids_are_uuids_of_version_4_and_differ() {
        let ids: Vec<String> = (0..100).map(|_| random_uuid()).collect();
        for (index, id) in ids.iter().enumerate() {
            assert_eq!(id.len(), 36, "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
            assert!(!ids[..index].contains(id));
        }
    }
}
