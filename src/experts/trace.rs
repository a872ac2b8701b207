//! Which experts the tokens of a text chose, as a file of lines: recorded by an engine, read by a replay.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::slots::ExpertId;
use crate::{Error, Result};

/// The version of the format that this program writes and reads.
const VERSION: u32 = 1;
/// More experts than any model has: what a header may make a replay allocate places for.
const MOST_EXPERTS: usize = 1 << 20;
/// More bytes than any expert has.
const MOST_BYTES: u64 = 1 << 40;

/// The routing of tokens in the order in which an engine computed them.
///
/// # File format
///
/// [JSON Lines](https://jsonlines.org). The first line describes the model, every other one a token:
///
/// ```json
/// {"moxel_trace":1,"model":"demo","k":1,"layers":[{"layer":1,"experts":8,"bytes":552960},{"layer":3,"experts":8,"bytes":552960}]}
/// {"id":9690,"prompt":0,"chosen":[5,3]}
/// {"id":198,"prompt":1,"chosen":[5,5]}
/// {"id":504,"chosen":[2,7]}
/// ```
///
/// - `moxel_trace` is the version of the format, `model` a name for people, `k` how many experts each MoE layer chooses for a
///   token; `layers` are the [`TraceLayer`]s in order.
/// - `id` is the token. `prompt` is there if it was computed together with others, and is its place among them: a new chunk of a
///   prompt begins at 0. `chosen` is the flattened \[layers, k\] list of experts.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    model: String,
    k: usize,
    layers: Vec<TraceLayer>,
    tokens: Vec<TraceToken>,
}

/// A MoE layer of a traced model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLayer {
    /// Index of the layer in the model.
    pub layer: usize,
    /// Routed experts.
    pub experts: usize,
    /// Bytes that one of them takes on the GPU.
    pub bytes: u64,
}

/// A token and what it chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceToken {
    /// Its id in the vocabulary.
    pub id: u32,
    /// Its place in the chunk of a prompt that it was computed with; `None` if it was computed alone, as generated tokens are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<usize>,
    /// [layers, k] experts.
    pub chosen: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    moxel_trace: u32,
    model: String,
    k: usize,
    layers: Vec<TraceLayer>,
}

impl Trace {
    /// A trace without tokens, of a model that chooses `k` experts in each MoE layer.
    ///
    /// # Errors
    /// There are no MoE layers, or sizes that no model has.
    pub fn new(model: &str, k: usize, layers: Vec<TraceLayer>) -> Result<Self> {
        let wrong = |what: &str| Err(Error::Request(format!("there is no trace of such a model: {what}")));
        let Some(most) = layers.iter().map(|layer| layer.experts).max() else { return wrong("it has no experts") };
        if layers.iter().any(|layer| k == 0 || k > layer.experts) {
            return wrong("each layer must choose at least one expert and at most all");
        }
        if most.saturating_mul(layers.len()) > MOST_EXPERTS {
            return wrong(&format!("it has more than {MOST_EXPERTS} experts"));
        }
        if layers.iter().any(|layer| layer.bytes == 0 || layer.bytes > MOST_BYTES) {
            return wrong(&format!("an expert must have 1 to {MOST_BYTES} bytes"));
        }
        Ok(Self { model: model.into(), k, layers, tokens: Vec::new() })
    }

    /// What the model was called.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Experts that each layer chooses for a token.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// MoE layers in order.
    #[must_use]
    pub fn layers(&self) -> &[TraceLayer] {
        &self.layers
    }

    /// Tokens in the order in which they were computed.
    #[must_use]
    pub fn tokens(&self) -> &[TraceToken] {
        &self.tokens
    }

    /// Appends a token.
    ///
    /// # Errors
    /// It does not choose `k` different experts in every layer, or its place in a prompt does not follow that of the token
    /// before it.
    pub fn push(&mut self, token: TraceToken) -> Result<()> {
        let wrong = |what: String| Err(Error::Request(what));
        if token.chosen.len() != self.layers.len() * self.k {
            return wrong(format!("chooses {} experts instead of {}", token.chosen.len(), self.layers.len() * self.k));
        }
        for (layer, chosen) in self.layers.iter().zip(token.chosen.chunks(self.k)) {
            for (i, expert) in chosen.iter().enumerate() {
                if *expert as usize >= layer.experts || chosen[..i].contains(expert) {
                    let (layer, experts) = (layer.layer, layer.experts);
                    return wrong(format!("layer {layer} cannot choose {chosen:?} of its {experts} experts"));
                }
            }
        }
        let before = self.tokens.last().and_then(|token| token.prompt);
        if token.prompt.is_some_and(|at| at > 0 && Some(at - 1) != before) {
            return wrong(format!("is token {} of a prompt without the one before it", token.prompt.unwrap_or_default()));
        }
        self.tokens.push(token);
        Ok(())
    }

    /// Appends what an engine computed: tokens of a prompt, or one alone, with the experts that each chose.
    pub(super) fn extend(&mut self, tokens: &[u32], chosen: &[Vec<ExpertId>], prompt: bool) {
        let of = |(at, (&id, chosen)): (usize, (&u32, &Vec<ExpertId>))| TraceToken {
            id,
            prompt: prompt.then_some(at),
            chosen: chosen.iter().map(|id| id.expert as u32).collect(),
        };
        self.tokens.extend(tokens.iter().zip(chosen).enumerate().map(of));
    }

    /// Reads a trace file; `file` names it in errors.
    ///
    /// # Errors
    /// A sentence that names the first line that is wrong, and what is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let wrong =
            |line: usize, problem: String| Error::Format { file: file.into(), problem: format!("line {line}: {problem}") };
        let mut lines = (1..).zip(text.lines());
        let Some((_, first)) = lines.next() else { return Err(wrong(1, "the description of the model is missing".into())) };
        // Before anything else, so that a later version says that it is one.
        #[derive(Deserialize)]
        struct Version {
            moxel_trace: u32,
        }
        let Version { moxel_trace } = json(first).map_err(|why| wrong(1, format!("is no trace of moxel: {why}")))?;
        if moxel_trace != VERSION {
            return Err(wrong(1, format!("is version {moxel_trace} of the format; this program reads version {VERSION}")));
        }
        let Header { model, k, layers, .. } = json(first).map_err(|why| wrong(1, why))?;
        let mut trace = Self::new(&model, k, layers).map_err(|why| wrong(1, why.to_string()))?;
        for (number, line) in lines {
            let token = json(line).map_err(|why| wrong(number, why))?;
            trace.push(token).map_err(|why| wrong(number, why.to_string()))?;
        }
        Ok(trace)
    }

    /// The trace as a file.
    ///
    /// # Errors
    /// None that is known: JSON has room for everything in a trace.
    pub fn to_text(&self) -> Result<String> {
        let header = Header { moxel_trace: VERSION, model: self.model.clone(), k: self.k, layers: self.layers.clone() };
        let impossible = |why: String| Error::Request(format!("the trace cannot be written: {why}"));
        let mut text = serde_json::to_string(&header).map_err(|why| impossible(why.to_string()))?;
        for token in &self.tokens {
            let line = serde_json::to_string(token).map_err(|why| impossible(why.to_string()))?;
            write!(text, "\n{line}").map_err(|why| impossible(why.to_string()))?;
        }
        text.push('\n');
        Ok(text)
    }
}

/// One line. serde_json counts lines of what it is given, which is always the first.
fn json<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|why| {
        let text = why.to_string();
        let problem = text.split(" at line ").next().unwrap_or(&text);
        format!("{problem}, in column {}", why.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<TraceLayer> {
        [(1, 8), (3, 5)].map(|(layer, experts)| TraceLayer { layer, experts, bytes: 4096 }).to_vec()
    }

    /// Two of the first layer, two of the second.
    fn ids(experts: [usize; 4]) -> Vec<ExpertId> {
        experts.iter().enumerate().map(|(i, &expert)| ExpertId { layer: i / 2, expert }).collect()
    }

    #[test]
    fn what_is_recorded_is_written_and_read() {
        let mut trace = Trace::new("tiny \"model\"", 2, layers()).unwrap();
        trace.extend(&[17, 4], &[ids([0, 1, 4, 3]), ids([2, 3, 2, 1])], true);
        trace.extend(&[9], &[ids([7, 5, 0, 2])], false);
        let token = |id, prompt, chosen: [u32; 4]| TraceToken { id, prompt, chosen: chosen.to_vec() };
        let tokens = [token(17, Some(0), [0, 1, 4, 3]), token(4, Some(1), [2, 3, 2, 1]), token(9, None, [7, 5, 0, 2])];
        assert_eq!(trace.tokens(), tokens);
        let text = trace.to_text().unwrap();
        assert_eq!(text.lines().nth(3), Some(r#"{"id":9,"chosen":[7,5,0,2]}"#));
        assert_eq!(Trace::parse("t.jsonl", &text).unwrap(), trace);
        assert_eq!((trace.model(), trace.k(), trace.layers()), ("tiny \"model\"", 2, &layers()[..]));
    }

    #[test]
    fn wrong_lines_are_named() {
        const HEAD: &str = r#"{"moxel_trace":1,"model":"m","k":1,"layers":[{"layer":1,"experts":8,"bytes":9}]}"#;
        let good = format!("{HEAD}\n{{\"id\":1,\"chosen\":[7]}}\n");
        assert!(Trace::parse("f", &good).is_ok());
        for (line, expected) in [
            (r#"{"id":1,"chosen":[8]}"#, "line 3: layer 1 cannot choose [8] of its 8 experts"),
            (r#"{"id":1,"chosen":[]}"#, "line 3: chooses 0 experts instead of 1"),
            (r#"{"id":1,"prompt":1,"chosen":[0]}"#, "line 3: is token 1 of a prompt without"),
            (r#"{"id":-1,"chosen":[0]}"#, "line 3: invalid value"),
            (r#"{"chosen":[0]}"#, "line 3: missing field `id`, in column 14"),
            (r#"{"id":1,"chosen":[0"#, "line 3: EOF"),
            ("", "line 3: EOF"),
        ] {
            let why = Trace::parse("f", &format!("{good}{line}\n{{}}\n")).unwrap_err().to_string();
            assert!(why.starts_with("f: ") && why.contains(expected), "{line}: {why}");
        }
        for (from, to, expected) in [
            ("\"moxel_trace\":1", "\"moxel_trace\":2", "line 1: is version 2"),
            ("\"moxel_trace\":1,", "", "line 1: is no trace of moxel"),
            ("\"k\":1", "\"k\":9", "at most all"),
            ("\"k\":1", "\"k\":0", "at least one"),
            ("\"experts\":8", "\"experts\":18446744073709551615", "more than 1048576 experts"),
            ("\"bytes\":9", "\"bytes\":9000000000000", "bytes"),
            ("[{\"layer\":1,\"experts\":8,\"bytes\":9}]", "[]", "it has no experts"),
        ] {
            let why = Trace::parse("f", &HEAD.replace(from, to)).unwrap_err().to_string();
            assert!(why.contains(expected) && why.contains("line 1"), "{to}: {why}");
        }
        assert!(Trace::parse("f", "").unwrap_err().to_string().contains("line 1"));
    }
}
