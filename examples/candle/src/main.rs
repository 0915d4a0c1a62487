//! candle-transformers' BERT under the profiler, without a change to candle.
//!
//! ```text
//! cargo run --release --manifest-path examples/candle/Cargo.toml
//! ```
//!
//! candle's models create their spans when they are loaded, keep them in their structs and enter them on every call. Most
//! profilers show each as one span as long as the program, below whatever was open when the model was loaded. Here each
//! call is an operation below its caller: batch > model > encoder > layer > attn > self-attn > linear.
//!
//! The weights are random: the arithmetic takes the time that it takes with trained ones. The counts in the profile are
//! compared with what the loop did, and a difference is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::bert::{BertModel, Config};
use tracing::instrument;
use tracing_cortex::Profile;

const BATCHES: u32 = 10;
const SENTENCES: u32 = 8;
const TOKENS: u32 = 128;
const LAYERS: u32 = 4;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let cortex = tracing_cortex::init()?;
    {
        let model = load()?;
        let start = Instant::now();
        for number in 0..BATCHES {
            embed(&model, number)?;
        }
        let tokens = f64::from(BATCHES * SENTENCES * TOKENS);
        let per_second = tokens / start.elapsed().as_secs_f64();
        println!("{tokens} tokens, {per_second:.0} per second");

        // The model lives, so its spans are still open.
        check(&cortex.profile())?;
    }
    check(&cortex.profile())?;
    cortex.finish()?;
    println!("every call was counted under its caller");
    Ok(())
}

#[instrument]
fn load() -> Result<BertModel> {
    let config = Config {
        hidden_size: 128,
        num_hidden_layers: LAYERS as usize,
        num_attention_heads: 4,
        intermediate_size: 512,
        ..Config::default()
    };
    let weights = VarMap::new();
    let weights = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    BertModel::load(weights, &config)
}

/// Computes one vector for each sentence of a batch.
#[instrument(name = "batch", skip(model), fields(sentences = SENTENCES, tokens = TOKENS))]
fn embed(model: &BertModel, number: u32) -> Result<Tensor> {
    let first = number * SENTENCES * TOKENS;
    let vocabulary = Config::default().vocab_size as u32;
    let words: Vec<u32> = (first..first + SENTENCES * TOKENS)
        .map(|position| position.wrapping_mul(2_654_435_761) % vocabulary)
        .collect();
    let words = Tensor::from_vec(words, (SENTENCES as usize, TOKENS as usize), &model.device)?;
    let types = words.zeros_like()?;
    model.forward(&words, &types, None)?.mean(1)
}

/// Compares the call tree with what the loop did: every path, and no other.
fn check(profile: &Profile) -> std::result::Result<(), String> {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for (index, path) in profile.paths.iter().enumerate() {
        *counted.entry(profile.names(index).join(" > ")).or_default() += path.stats.calls;
    }
    let expected = expected_calls();
    let paths: BTreeSet<&String> = expected.keys().chain(counted.keys()).collect();
    let differences: Vec<String> = paths
        .into_iter()
        .filter(|path| expected.get(*path) != counted.get(*path))
        .map(|path| {
            let calls = |of: &BTreeMap<String, u64>| of.get(path).copied().unwrap_or(0);
            let (made, shown) = (calls(&expected), calls(&counted));
            format!("{path}: {made} calls were made, the profile has {shown}")
        })
        .collect();
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.join("; "))
    }
}

fn expected_calls() -> BTreeMap<String, u64> {
    let per_batch = [
        ("", 1),
        (" > model", 1),
        (" > model > embeddings", 1),
        (" > model > embeddings > layer-norm", 1),
        (" > model > encoder", 1),
    ];
    let per_layer = [
        ("", 1),
        (" > attn", 1),
        (" > attn > self-attn", 1),
        // Query, key and value.
        (" > attn > self-attn > linear", 3),
        (" > attn > self-attn > softmax", 1),
        (" > attn > self-out", 1),
        (" > attn > self-out > linear", 1),
        (" > attn > self-out > layer-norm", 1),
        (" > inter", 1),
        (" > inter > linear", 1),
        (" > inter > hidden-act", 1),
        (" > out", 1),
        (" > out > linear", 1),
        (" > out > layer-norm", 1),
    ];
    let batches = u64::from(BATCHES);
    let layers = batches * u64::from(LAYERS);
    let under_batch = per_batch.map(|(path, calls)| (format!("batch{path}"), calls * batches));
    let under_layer = per_layer.map(|(path, calls)| {
        let path = format!("batch > model > encoder > layer{path}");
        (path, calls * layers)
    });
    let load = ("load".to_owned(), 1);
    under_batch
        .into_iter()
        .chain(under_layer)
        .chain([load])
        .collect()
}
