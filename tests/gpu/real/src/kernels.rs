//! The kernels: compiled by NVRTC on the machine, or from PTX that is part of this program.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::{Ptx, compile_ptx, sys};

use crate::Result;

const SOURCE: &str = include_str!("kernels/kernels.cu");
const PTX: &str = include_str!("kernels/kernels.ptx");

pub struct Kernels {
    pub compute_bound: CudaFunction,
    pub memory_bound: CudaFunction,
    pub tiny: CudaFunction,
    /// Who compiled them, for the table.
    pub compiled_by: String,
    /// What they were loaded from.
    pub ptx: String,
}

impl Kernels {
    /// Without NVRTC if `ptx`.
    pub fn load(context: &Arc<CudaContext>, ptx: bool) -> Result<Kernels> {
        let compiled = match ptx {
            true => Err("--ptx asks for it".to_owned()),
            false => compile(),
        };
        let compiled = compiled.and_then(|(by, ptx)| {
            let module = context.load_module(Ptx::from_src(&ptx));
            // Such as an NVRTC that is newer than the driver.
            module
                .map(|module| (by, ptx, module))
                .map_err(|why| format!("the driver refuses what NVRTC made: {why}"))
        });
        let (compiled_by, ptx, module) = match compiled {
            Ok(compiled) => compiled,
            Err(why) => {
                let module = context.load_module(Ptx::from_src(PTX))?;
                (
                    format!("PTX of this program, because {why}"),
                    PTX.to_owned(),
                    module,
                )
            }
        };
        let function = |name: &str| -> Result<CudaFunction> { Ok(function(&module, name)?) };
        Ok(Kernels {
            compute_bound: function("compute_bound")?,
            memory_bound: function("memory_bound")?,
            tiny: function("tiny")?,
            compiled_by,
            ptx,
        })
    }
}

fn function(module: &Arc<CudaModule>, name: &str) -> std::result::Result<CudaFunction, String> {
    let found = module.load_function(name);
    found.map_err(|why| format!("the kernel {name} is not in its module: {why}"))
}

fn compile() -> std::result::Result<(String, String), String> {
    // SAFETY: looks whether the library is there.
    if !unsafe { sys::is_culib_present() } {
        return Err("there is no libnvrtc".to_owned());
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the pointers are to numbers of ours.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    let ptx = compile_ptx(SOURCE).map_err(|why| format!("NVRTC {major}.{minor} fails: {why:?}"))?;
    Ok((format!("NVRTC {major}.{minor}"), ptx.to_src()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str, before: &str) -> Vec<String> {
        let after = text.split(before).skip(1);
        let name = |text: &str| {
            text.chars()
                .take_while(|it| it.is_alphanumeric() || *it == '_')
                .collect()
        };
        after.map(name).collect()
    }

    #[test]
    fn the_ptx_has_the_kernels_of_the_source() {
        let wanted = ["compute_bound", "memory_bound", "tiny"];
        assert_eq!(entries(SOURCE, "__global__ void "), wanted);
        assert_eq!(entries(PTX, ".entry "), wanted);
        // Needs no driver. Where there is no NVRTC nothing can be compiled.
        if let Ok((by, ptx)) = compile() {
            assert_eq!(entries(&ptx, ".entry "), wanted, "{by}");
        }
    }
}
