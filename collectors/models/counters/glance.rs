//! One look at a page of metrics whose server is not known: what each kind of server would read in it.

use std::collections::BTreeSet;

use super::dialect::{Count, Dialect, Wanted};
use super::page::Page;
use crate::exposition::{Found, Item};
use crate::models::request::Word;
use crate::models::{llamacpp, sglang, tgi, triton, vllm};

/// Families by which a server is known, the beginning of their names. Triton comes before vLLM, which may be one of its backends.
const FAMILIES: [(&str, Family); 9] = [
    ("nv_inference_", Family::Triton),
    ("sglang:", Family::Sglang),
    ("sglang_", Family::Sglang),
    ("tgi_", Family::Tgi),
    ("te_", Family::Tei),
    ("llamacpp:", Family::LlamaCpp),
    ("litellm_", Family::LiteLlm),
    ("vllm:", Family::Vllm),
    ("vllm_", Family::Vllm),
];

/// Counters of NIM, whose names say nothing of their server, so that it takes all of them.
const NIM: [&str; 3] = [
    "request_finish_total",
    "prompt_tokens_total",
    "generation_tokens_total",
];

/// Whose families a page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Triton,
    Sglang,
    Tgi,
    Tei,
    LlamaCpp,
    LiteLlm,
    Vllm,
    Nim,
}

/// The kinds of servers whose pages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Vllm,
    Sglang,
    Tgi,
    LlamaCpp,
    Triton,
}

/// What a page counts, all series together. What it does not count is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) requests: Option<u64>,
    pub(crate) input: Option<u64>,
    pub(crate) cached: Option<u64>,
    pub(crate) output: Option<u64>,
    /// In microjoules.
    pub(crate) energy: Option<u64>,
    pub(crate) models: BTreeSet<Word>,
}

/// A page as each kind of server would be read.
pub(crate) struct Pages {
    pages: Vec<(Read, Box<dyn Dialect>, Page)>,
    families: BTreeSet<Family>,
    of_nim: BTreeSet<&'static str>,
    /// How many samples there are, of whatever.
    pub(crate) samples: u64,
    /// Why there is no page.
    pub(crate) refused: Option<String>,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let dialects: [(Read, Box<dyn Dialect>); 5] = [
            (Read::Vllm, Box::new(vllm::metrics::Vllm)),
            (Read::Sglang, Box::new(sglang::metrics::Sglang)),
            (Read::Tgi, Box::new(tgi::metrics::Tgi)),
            (Read::LlamaCpp, Box::new(llamacpp::metrics::LlamaCpp)),
            (
                Read::Triton,
                Box::new(triton::metrics::Triton(Wanted {
                    models: BTreeSet::new(),
                    has_energy: true,
                })),
            ),
        ];
        Self {
            pages: dialects
                .into_iter()
                .map(|(read, dialect)| (read, dialect, Page::default()))
                .collect(),
            families: BTreeSet::new(),
            of_nim: BTreeSet::new(),
            samples: 0,
            refused: None,
        }
    }

    /// Takes what a line says.
    pub(crate) fn take(&mut self, item: Item<'_>) {
        // A server that was not asked yet has some families without a sample.
        let name = match &item {
            Item::Sample(sample) => sample.name.to_cow(),
            Item::Type { name, .. } => name.to_cow(),
            _ => return,
        };
        let family = FAMILIES
            .into_iter()
            .find(|(beginning, _)| name.starts_with(beginning));
        self.families.extend(family.map(|(_, family)| family));
        self.of_nim.extend(NIM.into_iter().find(|one| *one == name));
        for (_, dialect, page) in &mut self.pages {
            page.take(&**dialect, item);
        }
    }

    /// The page is over.
    pub(crate) fn finish(&mut self, found: &Found) {
        self.samples = found.samples;
        for (_, _, page) in &mut self.pages {
            page.finish();
        }
        if self.families.is_empty() && self.of_nim.len() == NIM.len() {
            self.families.insert(Family::Nim);
        }
    }

    /// Whose page it is.
    pub(crate) fn family(&self) -> Option<Family> {
        self.families.first().copied()
    }

    /// What a kind of server counts on this page; nothing where it has none of its counters.
    pub(crate) fn of(&self, read: Option<Read>) -> Option<Glance> {
        let (_, _, page) = self.pages.iter().find(|(kind, _, _)| Some(*kind) == read)?;
        let mut glance = Glance::default();
        for (series, counted) in &page.series {
            let sum = match series.count {
                Count::Requests => &mut glance.requests,
                Count::Input => &mut glance.input,
                Count::Cached => &mut glance.cached,
                Count::Output => &mut glance.output,
                Count::Energy => &mut glance.energy,
            };
            *sum = Some(sum.unwrap_or(0).saturating_add(counted.value));
            glance.models.extend(counted.group.model.clone());
        }
        (!page.series.is_empty()).then_some(glance)
    }

    /// What a person does about a page without counters.
    pub(crate) fn when_empty(&self, read: Read) -> &'static str {
        let found = self.pages.iter().find(|(kind, _, _)| *kind == read);
        found.map_or("", |(_, dialect, _)| dialect.when_empty())
    }
}
