//! What a case is: a program, what is wrong with it, and the same program without that.

use crate::program::{Body, Program, length};
use crate::scene::Scene;

/// One plant, or one healthy program, from which variants are drawn.
pub struct Case {
    /// Runs of one case are alike; they are one family in the statistics.
    pub id: &'static str,
    /// The rule that is to find the plant; `None` for a healthy program.
    pub rule: Option<&'static str>,
    pub tiers: Tiers,
    pub forms: Forms,
    pub build: fn(&mut Scene) -> Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tiers {
    Both,
    /// What it needs takes minutes, or hardware.
    Trace,
    Live,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    Sync,
    Async,
    Either,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    Trace,
    Live,
}

/// Which variant of a case is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    pub seed: u64,
    pub number: usize,
    pub tier: Tier,
    /// Without the plant.
    pub fixed: bool,
}

/// A program, and what there is to find in it.
#[derive(Debug)]
pub struct Built {
    pub program: Program,
    pub truth: Truth,
}

/// What a perfect diagnosis would say.
#[derive(Debug, Clone)]
pub struct Truth {
    /// `None` where nothing is wrong.
    pub primary: Option<Planted>,
    /// Right as well, though not what matters most.
    pub also: Vec<&'static str>,
    /// The fix makes it faster, so the promise can be compared with what it did.
    pub has_gain: bool,
    /// The rule never says more than "low".
    pub only_low: bool,
}

/// What must come first.
#[derive(Debug, Clone)]
pub struct Planted {
    pub rule: &'static str,
    /// The names of which one is to be given; the first is the best.
    pub sites: Vec<String>,
}

impl Planted {
    pub fn is_site(&self, name: &str) -> bool {
        self.sites.iter().any(|site| site == name)
    }
}

impl Case {
    pub fn runs_in(&self, tier: Tier) -> bool {
        match self.tiers {
            Tiers::Both => true,
            Tiers::Trace => tier == Tier::Trace,
            Tiers::Live => tier == Tier::Live,
        }
    }

    /// Thresholds may be chosen by what half of the cases say. The other half is for the proof.
    pub fn is_held_out(&self) -> bool {
        crate::rng::hash(self.id) % 2 == 1
    }

    pub fn build(&self, variant: Variant) -> Built {
        let mut scene = Scene::new(self, variant);
        let main = (self.build)(&mut scene);
        // In a third of the programs a thread computes for longer than the plant, but ends before the rest does.
        let beside = (variant.number % 3 == 2 && scene.can_have_company()).then(|| {
            let mut twin = Scene::new(
                self,
                Variant {
                    fixed: true,
                    ..variant
                },
            );
            length(&(self.build)(&mut twin)).mul_f64(0.8)
        });
        scene.finish(main, beside)
    }
}

pub const fn plant(
    id: &'static str,
    rule: &'static str,
    forms: Forms,
    build: fn(&mut Scene) -> Body,
) -> Case {
    Case {
        id,
        rule: Some(rule),
        tiers: Tiers::Both,
        forms,
        build,
    }
}

pub const fn healthy(id: &'static str, forms: Forms, build: fn(&mut Scene) -> Body) -> Case {
    Case {
        id,
        rule: None,
        tiers: Tiers::Both,
        forms,
        build,
    }
}

impl Case {
    pub const fn only(mut self, tiers: Tiers) -> Case {
        self.tiers = tiers;
        self
    }
}
