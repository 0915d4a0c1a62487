//! The layer of this crate.

use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_cortex::{CortexLayer, Overflow, ProfilingLevel};

use crate::system::{Installed, System, set_default};

/// Makes one of the `Cortex*` systems the default of this process.
pub(crate) fn install(system: System, level: LevelFilter, path: PathBuf) -> Installed {
    let builder = CortexLayer::builder();
    let builder = match system {
        System::CortexTrees => builder.level(ProfilingLevel::Standard),
        _ => builder.level(ProfilingLevel::Basic),
    };
    let builder = match system {
        System::CortexResources => builder.resources(Duration::from_millis(250)),
        _ => builder.no_resources(),
    };
    let (builder, trace) = match system {
        System::CortexChrome => (builder.overflow(Overflow::DropNewest), Some(path)),
        System::CortexChromeBlock => (builder.overflow(Overflow::Block), Some(path)),
        System::CortexChromeRoomy => (builder.max_record_bytes(1 << 30), Some(path)),
        _ => (builder, None),
    };
    let builder = match &trace {
        Some(path) => builder.chrome(path),
        None => builder,
    };
    let (layer, guard) = builder.build().unwrap();
    set_default(layer, level);
    Installed {
        trace,
        finish: Box::new(move || Some(guard.finish().unwrap().profile().losses.dropped_spans)),
    }
}
