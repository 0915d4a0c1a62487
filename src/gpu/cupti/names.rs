//! Names of kernels, each kept once.

use std::collections::HashMap;
use std::sync::Arc;

use cpp_demangle::{DemangleOptions, Symbol};

/// Demangled names by the names that the driver knows.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Box<[u8]>, Arc<str>>,
}

/// A program that generates kernels has no end of names.
const MOST: usize = 10_000;
/// Templates of tensor libraries make names of many kilobytes, of which the beginning says what it is.
const MOST_BYTES: usize = 1024;

impl Names {
    /// Returns the name as in the source.
    pub(super) fn of(&mut self, raw: &[u8]) -> Arc<str> {
        if let Some(known) = self.known.get(raw) {
            return Arc::clone(known);
        }
        let name: Arc<str> = readable(raw).into();
        if self.known.len() < MOST {
            self.known.insert(raw.into(), Arc::clone(&name));
        }
        name
    }
}

fn readable(raw: &[u8]) -> String {
    let demangled = Symbol::new(raw)
        .ok()
        .and_then(|symbol| symbol.demangle_with_options(&DemangleOptions::new()).ok());
    let mut name = demangled.unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned());
    if name.len() > MOST_BYTES {
        let cut = (0..=MOST_BYTES).rev().find(|&at| name.is_char_boundary(at));
        name.truncate(cut.unwrap_or(0));
        name.push_str("...");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cpp_are_demangled_and_others_stay() {
        let mut names = Names::default();
        assert_eq!(&*names.of(b"_Z4gemmPfS_i"), "gemm(float*, float*, int)");
        assert_eq!(&*names.of(b"saxpy"), "saxpy");
        assert_eq!(&*names.of(b"\xFF"), "\u{FFFD}");
        assert_eq!(&*names.of(b""), "");
    }

    #[test]
    fn a_long_name_is_cut_and_a_known_one_is_not_copied() {
        let mut names = Names::default();
        let long = vec![b'x'; 5_000];
        let name = names.of(&long);
        assert_eq!(name.len(), MOST_BYTES + 3);
        assert!(Arc::ptr_eq(&name, &names.of(&long)));
    }
}
