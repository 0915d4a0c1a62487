//! For each rule a planted profile, its healthy twin, its edge and thin data; then what holds for every profile.

mod async_rules;
mod data_rules;
mod distribution_rules;
mod every_profile;
mod time_rules;
