//! Attention of a prompt, as it is checked and measured: over a cache of f32 or f16, which hold heads of any size.

use half::f16;

use super::check::{Number, Random, difference, or_fault, result_of};
use crate::Result;
use crate::gpu::{Gpu, Recorder, Slice};
use crate::kernels::{AttentionShape, AttentionSlices, KernelChoice, KvType, prompt_attention};

/// Tokens of the prompt, and those before it.
const TOKENS: usize = 64;
const BEFORE: usize = 70;
const CONTEXT: usize = BEFORE + TOKENS;
/// Tokens whose results are looked at.
const COMPARED: [usize; 4] = [0, 1, 30, 63];
/// The most heads for keys, and heads that share one: more say nothing else.
const MOST_KEYS: usize = 8;
const MOST_SHARING: usize = 16;
/// How far results may be off: they are means of numbers up to 1, weighed by exponentials, for which devices have their own functions.
const SLACK: f64 = 1e-4;

/// Heads of the model, or some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) of_keys: usize,
    /// Heads that share a key.
    pub(super) sharing: usize,
    /// Dimensions, a multiple of 4.
    pub(super) size: usize,
}

/// What is computed: buffers of random numbers, and the right results.
pub(super) struct PromptAttention {
    shape: AttentionShape,
    pub(super) q: Slice,
    k: Slice,
    v: Slice,
    step: Slice,
    kv: KvType,
    /// [COMPARED, heads * size].
    expected: Vec<Number>,
}

impl Heads {
    pub(super) fn new(heads: usize, kv_heads: usize, size: usize) -> Self {
        let sharing = (heads / kv_heads.max(1)).clamp(1, MOST_SHARING);
        Self { of_keys: kv_heads.clamp(1, MOST_KEYS), sharing, size }
    }
}

impl PromptAttention {
    /// Over a cache of floats. Another seed gives other numbers.
    pub(super) fn new(gpu: &Gpu, heads: Heads, kv: KvType, seed: u64) -> Result<Self> {
        let Heads { of_keys, sharing, size } = heads;
        let shape = AttentionShape {
            heads: of_keys * sharing,
            kv_heads: of_keys,
            head_dim: size,
            context: CONTEXT,
            most_keys: CONTEXT,
            chunk: 0,
            scale: (size as f32).sqrt().recip(),
        };
        let mut random = Random(seed);
        let mut numbers = |len: usize| -> Vec<f32> { (0..len).map(|_| f16::from_f32(random.small() / 127.0).to_f32()).collect() };
        let q = numbers(TOKENS * shape.heads * size);
        let [k, v] = [(); 2].map(|()| numbers(of_keys * CONTEXT * size));
        let cache = |rows: &[f32]| {
            let row = |row: &[f32]| {
                let mut bytes: Vec<u8> = match kv {
                    KvType::F32 => bytemuck::cast_slice(row).to_vec(),
                    _ => row.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
                };
                bytes.resize(kv.bytes(size, 1) as usize, 0);
                bytes
            };
            upload(gpu, &rows.chunks_exact(size).flat_map(row).collect::<Vec<u8>>())
        };
        Ok(Self {
            q: upload(gpu, bytemuck::cast_slice(&q))?,
            k: cache(&k)?,
            v: cache(&v)?,
            step: upload(gpu, &(BEFORE as u32).to_le_bytes())?,
            kv,
            expected: COMPARED.iter().flat_map(|&token| results(&shape, &q, &k, &v, token)).collect(),
            shape,
        })
    }

    /// Room for results, full of NaNs, which are no right ones.
    pub(super) fn room(&self, gpu: &Gpu) -> Result<Slice> {
        upload(gpu, &vec![0xff; 4 * TOKENS * self.stride()])
    }

    fn stride(&self) -> usize {
        (self.shape.heads * self.shape.head_dim).next_multiple_of(32)
    }

    pub(super) fn record(&self, r: &mut Recorder, choice: KernelChoice, out: &Slice) {
        let (k_cache, v_cache, step) = (&self.k, &self.v, &self.step);
        let slices = AttentionSlices { k_cache, v_cache, step, out, spans: out, bytes: false, kv: self.kv };
        prompt_attention(r, &self.shape, &self.q, &slices, TOKENS, choice.four_rows);
    }

    /// Why the choice's kernel must not be used; `None` where it is right.
    pub(super) async fn fault(&self, gpu: &Gpu, choice: KernelChoice) -> Result<Option<String>> {
        or_fault(self.found(gpu, choice).await)
    }

    async fn found(&self, gpu: &Gpu, choice: KernelChoice) -> Result<Option<String>> {
        let mut r = Recorder::default();
        let out = self.room(gpu)?;
        self.record(&mut r, choice, &out);
        let out = result_of(gpu, r, &out).await?;
        let cols = self.shape.heads * self.shape.head_dim;
        let rows: Vec<&[f32]> = out.chunks_exact(self.stride()).collect();
        let got = COMPARED.iter().filter_map(|&token| rows.get(token)).flat_map(|row| &row[..cols]);
        Ok(difference("prompt's attention", got, self.expected.iter().copied()))
    }
}

fn upload(gpu: &Gpu, bytes: &[u8]) -> Result<Slice> {
    Ok(gpu.upload("tuning", bytes)?.whole())
}

/// A token's results of all heads: softmax(q k / sqrt(size)) v over the keys up to its own.
fn results(shape: &AttentionShape, q: &[f32], k: &[f32], v: &[f32], token: usize) -> Vec<Number> {
    let size = shape.head_dim;
    let head = |head: usize| {
        let query = &q[(token * shape.heads + head) * size..][..size];
        let first = head / (shape.heads / shape.kv_heads) * CONTEXT;
        let seen = first * size..(first + BEFORE + token + 1) * size;
        let dot = |key: &[f32]| key.iter().zip(query).map(|(&k, &q)| f64::from(k) * f64::from(q)).sum::<f64>();
        let weight = |key: &[f32]| (dot(key) * f64::from(shape.scale)).exp();
        let weights: Vec<f64> = k[seen.clone()].chunks_exact(size).map(weight).collect();
        let mut sums = vec![0.0; size];
        for (weight, value) in weights.iter().zip(v[seen].chunks_exact(size)) {
            sums.iter_mut().zip(value).for_each(|(sum, &v)| *sum += weight * f64::from(v));
        }
        let total: f64 = weights.iter().sum();
        sums.into_iter().map(move |sum| Number { value: sum / total, slack: SLACK })
    };
    (0..shape.heads).flat_map(head).collect()
}
