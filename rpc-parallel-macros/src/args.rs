//! The arguments of our attributes.
//!
//! All attributes share one grammar: `name`, `name = value` and `name(..)`. Each attribute takes
//! its own names; each remaining name is a mistake. The rules of this grammar are in this file, not
//! in [`crate::check`], because they apply before the model exists.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Ident, LitStr, Meta, Path, Token, parenthesized, token};

use crate::errors::Errors;
use crate::head::names_last;
use crate::names::Facade;

/// `#[worker(..)]` on a trait.
pub(crate) struct TraitArgs {
    pub(crate) facade: Facade,
}

impl TraitArgs {
    const POSSIBLE: &'static [&'static str] = &["crate = path"];

    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> TraitArgs {
        let mut raw = RawArgs::parse(args, errors);
        let facade = raw.facade(errors);
        if let Some(id) = raw.take("id", errors) {
            errors.add(
                id.name,
                "`id` must be on a function or on an impl, because a trait has no id",
                "move it to the function whose id it sets, or to the impl to set the id of the \
                 worker type",
            );
        }
        raw.finish("`#[worker]` on a trait", Self::POSSIBLE, errors);
        TraitArgs { facade }
    }
}

/// `#[worker(..)]` on an impl.
pub(crate) struct ImplArgs {
    pub(crate) facade: Facade,
    pub(crate) client: Option<Path>,
    pub(crate) id: Option<LitStr>,
}

impl ImplArgs {
    const POSSIBLE: &'static [&'static str] = &["client = path", "id = \"..\"", "crate = path"];

    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> ImplArgs {
        let mut raw = RawArgs::parse(args, errors);
        let args = ImplArgs {
            facade: raw.facade(errors),
            client: raw.path("client", errors),
            id: raw.id(errors),
        };
        raw.finish("`#[worker]` on an impl", Self::POSSIBLE, errors);
        args
    }
}

/// `#[worker(..)]` on a function of a trait, or the arguments of `#[process(..)]` that concern the
/// function.
#[derive(Default)]
pub(crate) struct FunctionArgs {
    pub(crate) id: Option<LitStr>,
    /// The return type is an alias of `Result`.
    pub(crate) result: bool,
    /// The worker sends no answer.
    pub(crate) one_way: bool,
    /// A cancelled call runs to its end. The word itself, for an error to underline.
    pub(crate) no_cancel: Option<Ident>,
}

impl FunctionArgs {
    const POSSIBLE: &'static [&'static str] = &["id = \"..\"", "result", "one_way", "no_cancel"];

    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> FunctionArgs {
        let mut raw = RawArgs::of_attributes(attrs, "worker", errors);
        let args = FunctionArgs {
            id: raw.id(errors),
            result: raw.flag("worker", "result", errors).is_some(),
            one_way: raw.flag("worker", "one_way", errors).is_some(),
            no_cancel: raw.flag("worker", "no_cancel", errors),
        };
        raw.finish("`#[worker]` on a function", Self::POSSIBLE, errors);
        args
    }
}

/// `#[process(..)]` on a function.
pub(crate) struct ProcessArgs {
    pub(crate) facade: Facade,
    pub(crate) function: FunctionArgs,
}

impl ProcessArgs {
    const POSSIBLE: &'static [&'static str] = &["id = \"..\"", "result", "crate = path"];

    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> ProcessArgs {
        let mut raw = RawArgs::parse(args, errors);
        let facade = raw.facade(errors);
        let (id, result) = (raw.id(errors), raw.flag("process", "result", errors).is_some());
        raw.finish("`#[process]`", Self::POSSIBLE, errors);
        ProcessArgs { facade, function: FunctionArgs { id, result, ..FunctionArgs::default() } }
    }
}

/// `#[worker_state(..)]` beside `#[derive(WorkerState)]`.
pub(crate) struct StateArgs {
    pub(crate) facade: Facade,
}

impl StateArgs {
    const POSSIBLE: &'static [&'static str] = &["crate = path"];

    pub(crate) fn parse(attrs: &[Attribute], errors: &mut Errors) -> StateArgs {
        let mut raw = RawArgs::of_attributes(attrs, "worker_state", errors);
        let facade = raw.facade(errors);
        raw.finish("`#[worker_state]`", Self::POSSIBLE, errors);
        StateArgs { facade }
    }
}

/// `#[entry(..)]` and `#[test(..)]`.
pub(crate) struct EntryArgs {
    pub(crate) facade: Facade,
    /// The runtime of the async function itself.
    pub(crate) runtime: RuntimeArgs,
    /// The runtime of each worker.
    pub(crate) worker_runtime: RuntimeArgs,
    pub(crate) settings: Option<Expr>,
    pub(crate) worker_logs: Option<Expr>,
    /// Whether the master takes a snapshot. Only `#[entry]` has it.
    pub(crate) snapshot: Option<SnapshotArg>,
}

/// `snapshot` and `snapshot = function`
pub(crate) struct SnapshotArg {
    pub(crate) warm: Option<Path>,
}

impl EntryArgs {
    const POSSIBLE: &'static [&'static str] = &[
        "flavor = \"..\"",
        "threads = number",
        "worker(flavor = \"..\", threads = number)",
        "settings = value",
        "worker_logs = bool",
        "snapshot",
        "snapshot = function",
        "crate = path",
    ];

    /// Parses the arguments of `#[entry]`.
    pub(crate) fn parse(args: TokenStream, errors: &mut Errors) -> EntryArgs {
        let mut raw = RawArgs::parse(args, errors);
        let snapshot = raw.snapshot(errors);
        EntryArgs { snapshot, ..Self::take(raw, "`#[entry]`", Self::POSSIBLE, errors) }
    }

    /// Parses the arguments of `#[test]`.
    pub(crate) fn parse_of_test(args: TokenStream, errors: &mut Errors) -> EntryArgs {
        let mut raw = RawArgs::parse(args, errors);
        if let Some(snapshot) = raw.take("snapshot", errors) {
            errors.add(
                snapshot.name,
                "`snapshot` must be on the `main` of a program",
                "libtest has threads, with which no snapshot can be taken; let the test start a \
                 program whose `main` takes it",
            );
        }
        let is_possible = |it: &&str| !it.starts_with("snapshot");
        let possible: Vec<_> = Self::POSSIBLE.iter().copied().filter(is_possible).collect();
        Self::take(raw, "`#[rpc_parallel::test]`", &possible, errors)
    }

    /// Takes the arguments that both attributes have. Errors call the attribute `on`.
    fn take(mut raw: RawArgs, on: &str, possible: &[&str], errors: &mut Errors) -> EntryArgs {
        let args = EntryArgs {
            facade: raw.facade(errors),
            runtime: RuntimeArgs::take(&mut raw, errors),
            worker_runtime: RuntimeArgs::take_nested(&mut raw, errors),
            worker_logs: raw.value("worker_logs", "`true` or `false`", errors),
            settings: raw.value("settings", "a value of type `Settings`", errors),
            snapshot: None,
        };
        raw.finish(on, possible, errors);
        args
    }
}

/// `flavor = .., threads = ..`
#[derive(Default)]
pub(crate) struct RuntimeArgs {
    pub(crate) flavor: Option<FlavorArg>,
    /// The names of the arguments that are written, for errors to underline.
    pub(crate) written: Vec<Ident>,
}

pub(crate) enum FlavorArg {
    CurrentThread,
    MultiThread { threads: Option<Expr> },
}

impl RuntimeArgs {
    const POSSIBLE: &'static [&'static str] = &["flavor = \"..\"", "threads = number"];

    fn take(raw: &mut RawArgs, errors: &mut Errors) -> RuntimeArgs {
        let names = raw.0.iter().map(|arg| arg.name.clone());
        let written: Vec<_> = names.filter(|it| it == "flavor" || it == "threads").collect();
        let flavor = raw.string("flavor", errors);
        let threads = raw.value("threads", "a number of threads", errors);
        let flavor = match flavor.map(|literal| (literal.value(), literal)) {
            Some((name, _)) if name == "multi_thread" => Some(FlavorArg::MultiThread { threads }),
            Some((name, literal)) if name != "current_thread" => {
                errors.add(
                    literal,
                    format!("flavor `{name}` must be `current_thread` or `multi_thread`"),
                    "`current_thread`, the default, suits programs of many small processes",
                );
                None
            }
            current_thread => {
                if let Some(name) = written.iter().find(|it| *it == "threads") {
                    errors.add(
                        name,
                        "`threads` must come with `flavor = \"multi_thread\"`",
                        "add the flavor, or remove `threads`",
                    );
                }
                current_thread.map(|_| FlavorArg::CurrentThread)
            }
        };
        RuntimeArgs { flavor, written }
    }

    /// Takes `worker(flavor = .., threads = ..)`.
    fn take_nested(raw: &mut RawArgs, errors: &mut Errors) -> RuntimeArgs {
        let mut nested = raw.list("worker", errors);
        let runtime = RuntimeArgs::take(&mut nested, errors);
        nested.finish("`worker(..)`", Self::POSSIBLE, errors);
        runtime
    }
}

/// The arguments of one attribute that have not been taken.
#[derive(Default)]
struct RawArgs(Vec<RawArg>);

struct RawArg {
    name: Ident,
    value: RawValue,
}

enum RawValue {
    /// `name`
    None,
    /// `name = value`
    One(Expr),
    /// `name(..)`
    List(RawArgs),
}

impl Parse for RawArgs {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let args = Punctuated::<RawArg, Token![,]>::parse_terminated(input)?;
        Ok(RawArgs(args.into_iter().collect()))
    }
}

impl Parse for RawArg {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            RawValue::One(input.parse()?)
        } else if input.peek(token::Paren) {
            let list;
            parenthesized!(list in input);
            RawValue::List(list.parse()?)
        } else {
            RawValue::None
        };
        Ok(RawArg { name, value })
    }
}

impl ToTokens for RawArg {
    /// Writes the tokens to underline if the value is wrong.
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match &self.value {
            RawValue::One(value) => value.to_tokens(tokens),
            RawValue::None | RawValue::List(_) => self.name.to_tokens(tokens),
        }
    }
}

impl RawArgs {
    fn parse(args: TokenStream, errors: &mut Errors) -> RawArgs {
        errors.absorb(syn::parse2(args)).unwrap_or_default()
    }

    /// Parses the arguments of all attributes called `name`, as if they were those of one.
    fn of_attributes(attrs: &[Attribute], name: &str, errors: &mut Errors) -> RawArgs {
        let mut raw = RawArgs::default();
        for attr in attrs.iter().filter(|it| names_last(it.path(), name)) {
            if let Meta::Path(_) = attr.meta {
                continue;
            }
            let parsed: RawArgs = errors.absorb(attr.parse_args()).unwrap_or_default();
            raw.0.extend(parsed.0);
        }
        raw
    }

    /// Takes the first argument called `name`; each further one is a mistake.
    fn take(&mut self, name: &str, errors: &mut Errors) -> Option<RawArg> {
        let mut found = None;
        for arg in self.0.extract_if(.., |arg| arg.name == name) {
            match found {
                None => found = Some(arg),
                Some(_) => {
                    let sentence = format!("`{name}` must be given once");
                    errors.add(arg.name, sentence, "remove one of the two");
                }
            }
        }
        found
    }

    /// Takes `name = value`.
    fn value(&mut self, name: &str, form: &str, errors: &mut Errors) -> Option<Expr> {
        match self.take(name, errors)? {
            RawArg { value: RawValue::One(value), .. } => Some(value),
            arg => {
                malformed(&arg, name, form, errors);
                None
            }
        }
    }

    /// Takes `name = ".."`.
    fn string(&mut self, name: &str, errors: &mut Errors) -> Option<LitStr> {
        let value = self.value(name, "a string", errors)?;
        let literal = syn::parse2(value.to_token_stream()).ok();
        if literal.is_none() {
            malformed(&value, name, "a string", errors);
        }
        literal
    }

    /// Takes `name = path`.
    fn path(&mut self, name: &str, errors: &mut Errors) -> Option<Path> {
        let value = self.value(name, "a path", errors)?;
        let path = Path::parse_mod_style.parse2(value.to_token_stream()).ok();
        if path.is_none() {
            malformed(&value, name, "a path", errors);
        }
        path
    }

    /// Takes a `name` of the attribute `on` that has no value.
    fn flag(&mut self, on: &str, name: &str, errors: &mut Errors) -> Option<Ident> {
        let arg = self.take(name, errors)?;
        if !matches!(arg.value, RawValue::None) {
            let sentence = format!("`{name}` must not have a value");
            errors.add(&arg, sentence, format!("write `#[{on}({name})]`"));
        }
        Some(arg.name)
    }

    /// Takes `name(..)`.
    fn list(&mut self, name: &str, errors: &mut Errors) -> RawArgs {
        match self.take(name, errors) {
            None => RawArgs::default(),
            Some(RawArg { value: RawValue::List(list), .. }) => list,
            Some(arg) => {
                malformed(&arg, name, "a list", errors);
                RawArgs::default()
            }
        }
    }

    /// Takes `snapshot` or `snapshot = path`.
    fn snapshot(&mut self, errors: &mut Errors) -> Option<SnapshotArg> {
        let arg = self.take("snapshot", errors)?;
        let warm = match &arg.value {
            RawValue::None => None,
            RawValue::One(value) => Path::parse_mod_style.parse2(value.to_token_stream()).ok(),
            RawValue::List(_) => None,
        };
        if warm.is_none() && !matches!(arg.value, RawValue::None) {
            malformed(&arg, "snapshot", "alone, or the path of a function", errors);
        }
        Some(SnapshotArg { warm })
    }

    fn facade(&mut self, errors: &mut Errors) -> Facade {
        Facade::new(self.path("crate", errors))
    }

    fn id(&mut self, errors: &mut Errors) -> Option<LitStr> {
        let id = self.string("id", errors)?;
        if id.value().is_empty() {
            errors.add(&id, "`id` must not be empty", "write the name to compute the id from");
        }
        Some(id)
    }

    /// Reports the arguments that have not been taken.
    fn finish(self, on: &str, possible: &[&str], errors: &mut Errors) {
        let possible: Vec<_> = possible.iter().map(|it| format!("`{it}`")).collect();
        for RawArg { name, .. } in self.0 {
            let sentence = format!("`{}` must be a known argument of {on}", name.unraw());
            errors.add(name, sentence, format!("known arguments: {}", possible.join(", ")));
        }
    }
}

fn malformed(wrong: &impl ToTokens, name: &str, form: &str, errors: &mut Errors) {
    let example = match name {
        "crate" => "crate = path::to::rpc_parallel",
        "client" => "client = path::to::Client",
        "flavor" => "flavor = \"multi_thread\"",
        "settings" => "settings = Settings::default()",
        "snapshot" => "snapshot = load_tables",
        "threads" => "threads = 4",
        "worker_logs" => "worker_logs = true",
        "worker" => "worker(flavor = \"multi_thread\")",
        _ => "id = \"..\"",
    };
    errors.add(wrong, format!("`{name}` must be {form}"), format!("write `{example}`"));
}
