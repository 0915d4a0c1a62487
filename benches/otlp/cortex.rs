//! The layer of this crate.

use tracing_cortex::CortexLayer;

use crate::receiver::Endpoints;
use crate::system::{Finish, System, set_default};

/// Whether the layer can export that way.
pub(crate) fn can(system: System) -> bool {
    !matches!(system, System::CortexGrpc | System::CortexHttp)
}

/// Makes one of the `Cortex*` systems the default of this process.
pub(crate) fn install(system: System, _: &Endpoints) -> Finish {
    assert!(can(system));
    let (layer, guard) = CortexLayer::builder().no_resources().build().unwrap();
    set_default(layer);
    Box::new(move || {
        guard.finish().unwrap();
    })
}
