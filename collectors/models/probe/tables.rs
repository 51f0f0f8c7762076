//! Tables for the configuration, the best way to read a server first, and what cannot be known by each.

use std::fmt::Write as _;

use super::Model;
use super::server::{Found, Kind};
use crate::web::Site;

/// GPUs of the server, on this machine.
const GPUS: &str =
    "# gpus = [0]    # its GPUs on this machine, as nvidia-smi numbers them: measures the energy\n";

/// Where exporters of spans post to.
const OTLP: &str = "127.0.0.1:4317";

/// What a log has of the address of its server.
const HELD: &str = "its models; what the log tells is held against its counters, where it has them";

/// The same of a server whose counters are not read.
const OF_TEI: &str = "the name of its model; `status` then says that it has none of TGI's counters";

/// Most models without a size for which a table is printed.
const MODELS_MAX: usize = 10;

/// What cannot be known of a server, whatever is configured, or only in a better way.
pub(super) const fn cannot(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Vllm | Kind::Nim => &[
            "not known by metrics: single requests, their ids, tags and durations; the path, where several are in use; LoRA adapters",
            "its log has no tokens",
        ],
        Kind::Sglang => &[
            "not known by metrics: single requests, their ids and durations; tags only with --tokenizer-metrics-allowed-custom-labels",
        ],
        Kind::Tgi => &[
            "not known by metrics: single requests and their durations; tags, which it has nowhere: use rules",
            "not known by its log: input tokens and ids",
        ],
        Kind::Tei => {
            &["not known: tokens, ids and tags; its log tells each request and how long it took"]
        }
        Kind::LlamaCpp => &[
            "its metrics count no requests, so that nothing of them is in the share of routine tasks; its log tells each one, with tokens and duration",
            "not known by its log: ids and tags; use rules, or one server for each kind of task",
        ],
        Kind::Ollama => &[
            "it has no metrics; its log tells each request, with tokens from 0.30 on",
            "not known by its log: ids and tags; the model where several are loaded at a time, before 0.30",
        ],
        Kind::Triton => &[
            "not known: single requests, their ids and tags; tokens, where the backend of a model counts none",
        ],
        Kind::LiteLlm => {
            &["its metrics carry users and are not read; what it pushes has everything"]
        }
        Kind::OpenAi => &[
            "such a server tells nothing of its requests in a way that is read: they must be told by who sends them, or by a gateway",
        ],
    }
}

/// The tables.
pub(super) fn all(
    found: &Found,
    (site, page): (&Site, &str),
    has_counters: bool,
    models: &[Model],
) -> String {
    let mut text = Text::default();
    if !site.address().is_loopback() {
        text.remark("A log, a journal and GPUs are read on the machine of the server: let its own agent do that.\n");
    }
    let servers = Servers { site, page };
    match found.kind {
        Kind::Vllm | Kind::Nim => {
            text.remark(&format!(
                "Best: a span for each request, with id, tokens, duration and the tags of X-Request-Id. Start the server with\n\
                 --otlp-traces-endpoint http://{OTLP} and take this table instead of the other one:"
            ));
            text.remark(&servers.otlp("    # for the name of its model, which spans lack"));
            text.remark("\nWithout a change of the server: sums of its counters.");
            text.table(&servers.asked("vllm"));
        }
        Kind::Sglang => {
            text.remark(
                "Best: its log, a record for each request, in files of their own. Start the server with\n\
                 --log-requests --log-requests-level 0 --log-requests-format json --log-requests-target /var/log/sglang,\n\
                 and take this table instead of the other one:",
            );
            text.remark(&servers.filed("sglang", "/var/log/sglang/*.log", HELD));
            text.remark(&format!(
                "\nOr a span for each request: --enable-trace --otlp-traces-endpoint {OTLP}"
            ));
            text.remark(&servers.otlp(""));
            text.remark(match has_counters {
                true => "\nWithout a change of the server: sums of its counters.",
                false => {
                    "\nSums of its counters, which it has when it is started with --enable-metrics."
                }
            });
            text.table(&servers.asked("sglang"));
        }
        Kind::Tgi => {
            text.remark("Best: its log, with output tokens and duration of each request:");
            text.remark(&servers.logged("tgi", "tgi.service", HELD));
            text.remark("\nSums of its counters, with input tokens:");
            text.table(&servers.asked("tgi"));
        }
        Kind::Tei => text.table(&servers.logged("tgi", "tei.service", OF_TEI)),
        Kind::LlamaCpp => text.table(&servers.logged("llamacpp", "llama-server.service", HELD)),
        Kind::Ollama => {
            text.table(&servers.logged("ollama", "ollama.service", "names and sizes of its models"))
        }
        Kind::Triton if has_counters => text.table(&servers.asked("triton")),
        Kind::Triton => {
            text.remark("Its metrics are on a port of their own, normally 8002; probe that to see what they count.");
            let page = match site.address().host() {
                host if host.contains(':') => format!("http://[{host}]:8002"),
                host => format!("http://{host}:8002"),
            };
            text.table(&format!("{}url = \"{page}\"\n", head("triton")));
        }
        Kind::LiteLlm => {
            text.remark(
                "In LiteLLM's configuration: litellm_settings: { callbacks: [\"generic_api\"], turn_off_message_logging: true }\n\
                 In its environment: GENERIC_LOGGER_ENDPOINT=http://127.0.0.1:4319/v1/litellm and DEFAULT_BATCH_SIZE=1",
            );
            text.table(&format!(
                "{}listen = \"127.0.0.1:4319\"    # beyond this machine: with `token`\n",
                head("litellm")
            ));
        }
        Kind::OpenAi => {
            text.remark(
                "Best: LiteLLM as a gateway before it, which tells every request: `probe inference` it then.\n\
                 Or your own code writes the standardized log format:",
            );
            text.remark(&format!(
                "{}log = \"/var/log/inferences.jsonl\"\n",
                head("jsonl")
            ));
            text.remark("\nOr clients that are traced, with gen_ai attributes:");
            text.table(&format!(
                "{}listen = \"{OTLP}\"    # OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://{OTLP}\n",
                head("otlp")
            ));
        }
    }
    text.sizes(models);
    text.0
}

/// The beginning of a table.
fn head(kind: &str) -> String {
    format!(
        "[[models.source]]\nkind = \"{kind}\"\n# name = \"chat\"    # its endpoint in your inventory, else {kind:?}\n"
    )
}

/// Tables of one server.
struct Servers<'a> {
    site: &'a Site,
    /// Where its metrics are.
    page: &'a str,
}

impl Servers<'_> {
    /// Its address, and how it is reached.
    fn url(&self, remark: &str) -> String {
        format!(
            "url = \"{}\"{remark}\n{}",
            self.site.address(),
            self.site.keys()
        )
    }

    /// Its counters are asked for.
    fn asked(&self, kind: &str) -> String {
        let mut table = head(kind);
        let base = self.site.address().to_string();
        // NIM has its page elsewhere.
        let is_usual = self.page == format!("{base}/metrics");
        let url = if is_usual { &base } else { self.page };
        let _ = writeln!(table, "url = \"{url}\"");
        table.push_str(&self.site.keys());
        // Triton counts the energy of its GPUs itself.
        table.push_str(match kind {
            "triton" => "# models = [\"ensemble\"]    # those that callers ask for, where one is made of others\n",
            _ => GPUS,
        });
        table
    }

    /// Its log is followed.
    fn logged(&self, kind: &str, unit: &str, url: &str) -> String {
        format!(
            "{}journal = \"{unit}\"    # the unit that runs it; else log = \"/PATH\" of its output or its container's\n{}{GPUS}",
            head(kind),
            self.url(&format!("    # {url}"))
        )
    }

    /// It writes files, which are held against its counters.
    fn filed(&self, kind: &str, log: &str, url: &str) -> String {
        format!(
            "{}log = \"{log}\"    # not its output, into which callers can get lines\n{}{GPUS}",
            head(kind),
            self.url(&format!("    # {url}"))
        )
    }

    /// It sends spans.
    fn otlp(&self, remark: &str) -> String {
        format!(
            "{}listen = \"{OTLP}\"    # beyond this machine: with `token`\n{}",
            head("otlp"),
            self.url(remark)
        )
    }
}

/// What is printed.
#[derive(Default)]
struct Text(String);

impl Text {
    fn remark(&mut self, lines: &str) {
        for line in lines.lines() {
            let line = format!("# {line}");
            self.0.push_str(line.trim_end());
            self.0.push('\n');
        }
    }

    fn table(&mut self, table: &str) {
        self.0.push_str(table);
    }

    /// Sizes that nobody says.
    fn sizes(&mut self, models: &[Model]) {
        let unsized_models = models.iter().filter(|model| model.size.is_none());
        for (at, model) in unsized_models.take(MODELS_MAX).enumerate() {
            if at == 0 {
                self.remark("\nModels of unknown size count as not small. Say how large they are:");
            }
            let name = &model.name;
            self.remark(&format!(
                "[[models.model]]\nname = \"{name}\"\nparameters = 0    # all of them, for example 8_000_000_000: see its model card"
            ));
        }
    }
}
