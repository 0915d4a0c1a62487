//! For each rule a planted profile, its healthy twin, its edge and thin data; then what holds for every profile.

mod async_rules;
mod calls;
mod critical_path;
mod data_rules;
mod database_rules;
mod distribution_rules;
mod every_profile;
mod gpu_rules;
mod memory_rules;
mod network_rules;
mod replay;
mod requests;
mod stall_rules;
mod storage_rules;
mod tasks;
mod threads;
mod time_rules;
mod tree_findings;
mod trend_rules;
mod work_rules;
