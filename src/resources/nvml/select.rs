//! Which of the machine's devices are read, and under which names.

use crate::model::GpuDevice;

/// A device of the machine, as NVML counts and describes it.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) index: u32,
    pub(super) name: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) memory_bytes: Option<u64>,
}

/// A device that is read.
#[derive(Debug, PartialEq)]
pub(super) struct Chosen {
    /// NVML's number.
    pub(super) index: u32,
    /// What the names of its series begin with.
    pub(super) prefix: String,
    pub(super) device: GpuDevice,
}

#[derive(Debug, PartialEq)]
pub(super) struct Selection {
    pub(super) chosen: Vec<Chosen>,
    /// Why devices are not read.
    pub(super) missing: Vec<String>,
}

/// Chooses the devices that are `visible` under their ordinals, or all of them under NVML's numbers where that is not known.
pub(super) fn select(listed: Vec<Listed>, visible: Option<&[(u32, String)]>) -> Selection {
    let mut selection = Selection {
        chosen: Vec::new(),
        missing: Vec::new(),
    };
    let Some(visible) = visible else {
        if listed.is_empty() {
            selection
                .missing
                .push("the machine has no device".to_owned());
        }
        let named = listed.into_iter().map(|listed| {
            let prefix = format!("gpu.nvml{}", listed.index);
            chosen(listed.index, prefix, listed)
        });
        selection.chosen.extend(named);
        return selection;
    };
    for (ordinal, uuid) in visible {
        let found = listed.iter().find(|listed| {
            let known = listed.uuid.as_deref();
            known.is_some_and(|known| is_same(known, uuid))
        });
        match found {
            Some(listed) => {
                let prefix = format!("gpu.{ordinal}");
                let chosen = chosen(*ordinal, prefix, listed.clone());
                selection.chosen.push(chosen);
            }
            // A part of a divided device has an identity of its own, and none of these readings.
            None if uuid.starts_with("MIG-") => selection.missing.push(format!(
                "device {ordinal} ({uuid}) is a part of a divided device, for which NVML has no such readings"
            )),
            None => selection.missing.push(format!(
                "NVML does not list device {ordinal} ({uuid}), which CUDA shows"
            )),
        }
    }
    selection
}

fn chosen(ordinal: u32, prefix: String, listed: Listed) -> Chosen {
    Chosen {
        index: listed.index,
        prefix,
        device: GpuDevice {
            ordinal,
            name: listed.name,
            uuid: listed.uuid,
            memory_bytes: listed.memory_bytes,
            multiprocessors: None,
        },
    }
}

/// CUDA gives sixteen bytes, NVML a text with a prefix; whoever wrote them out may have used either case.
fn is_same(a: &str, b: &str) -> bool {
    let digits = |text: &str| {
        text.strip_prefix("GPU-")
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    digits(a) == digits(b)
}
