//! The model of a worker trait, and of a process function: plain structs that borrow their syntax.
//!
//! The model holds what is written, correct or not. [`crate::check`] finds the mistakes.

use proc_macro2::Ident;
use syn::{
    Attribute, Block, FnArg, ItemTrait, Pat, PatType, ReturnType, Signature, Token, TraitItem,
    Type, TypePath, TypeReference,
};

use crate::args::FunctionArgs;
use crate::errors::Errors;
use crate::head::{FunctionHead, names_last};
use crate::names;
use crate::pipes::{self, Kind};
use crate::search;
use crate::type_parts::{type_arguments, ungrouped};

/// A worker trait.
pub(crate) struct Worker<'a> {
    pub(crate) item: &'a ItemTrait,
    pub(crate) name: &'a Ident,
    pub(crate) functions: Vec<Function<'a>>,
}

/// A worker function or a process function.
pub(crate) struct Function<'a> {
    pub(crate) kind: FunctionKind,
    pub(crate) attrs: &'a [Attribute],
    pub(crate) sig: &'a Signature,
    /// The body of a worker function, which is a mistake.
    pub(crate) default: Option<&'a Block>,
    /// The position of the function in the trait.
    pub(crate) index: usize,
    pub(crate) name: &'a Ident,
    pub(crate) args: FunctionArgs,
    /// The parameters after `&self`, in their order.
    pub(crate) parameters: Vec<Parameter<'a>>,
    pub(crate) result: Returned<'a>,
}

/// The kind of a function, which decides what errors call it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum FunctionKind {
    /// A function of a trait with `#[worker]`.
    Worker,
    /// A function with `#[process]`.
    Process,
}

impl FunctionKind {
    /// Returns the name of the attribute that declares the function.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            FunctionKind::Worker => "worker",
            FunctionKind::Process => "process",
        }
    }
}

pub(crate) enum Parameter<'a> {
    /// `cx: &Context<Account>`: the worker supplies it.
    Context(Context<'a>),
    /// The caller supplies it.
    Argument(Argument<'a>),
}

pub(crate) struct Context<'a> {
    /// The type without the `&`.
    pub(crate) ty: &'a TypePath,
    pub(crate) mutable: Option<&'a Token![mut]>,
}

pub(crate) struct Argument<'a> {
    pub(crate) syntax: &'a PatType,
    /// The name as written, or a generated name in place of a pattern.
    pub(crate) name: Ident,
    /// Whether the argument is written as a name alone.
    pub(crate) named: bool,
    /// The variable of the owned value in dispatch code.
    pub(crate) owned: Ident,
    /// The type without the `&`.
    pub(crate) ty: &'a Type,
    pub(crate) borrow: Option<Borrow<'a>>,
    /// The `T` of an argument that is a `Pipe<T>`: client functions take any stream of `T`.
    pub(crate) elements: Option<&'a Type>,
}

/// `&`, with the lifetime and the `mut` that follow it.
pub(crate) struct Borrow<'a> {
    pub(crate) and: &'a Token![&],
    pub(crate) lifetime: Option<&'a syn::Lifetime>,
    pub(crate) mutable: Option<&'a Token![mut]>,
}

/// The return type of a function, without the future of an `async fn`.
pub(crate) enum Returned<'a> {
    Nothing,
    Plain(&'a Type),
    /// A `Result`, or an alias of `Result`.
    Fallible(&'a Type),
}

impl<'a> Worker<'a> {
    /// Lowers a trait to its model.
    pub(crate) fn lower(item: &'a ItemTrait, errors: &mut Errors) -> Worker<'a> {
        let mut functions: Vec<Function> = Vec::new();
        for it in &item.items {
            let TraitItem::Fn(function) = it else { continue };
            let args = FunctionArgs::parse(&function.attrs, errors);
            let (kind, index) = (FunctionKind::Worker, functions.len());
            let default = function.default.as_ref();
            let function =
                Function::lower(kind, index, &function.attrs, &function.sig, default, args);
            if !functions.iter().any(|it| it.is_repeated_by(&function)) {
                functions.push(function);
            }
        }
        Worker { name: &item.ident, functions, item }
    }

    /// Returns the first context that a function takes. Its type names the connection state.
    pub(crate) fn context(&self) -> Option<&Context<'a>> {
        self.functions.iter().find_map(|it| it.contexts().find(|it| it.is_ours()))
    }
}

impl<'a> Function<'a> {
    /// Lowers a function with `#[process]` to its model.
    pub(crate) fn of_process(args: FunctionArgs, item: &'a FunctionHead) -> Function<'a> {
        Function::lower(FunctionKind::Process, 0, &item.attrs, &item.sig, None, args)
    }

    fn lower(
        kind: FunctionKind,
        index: usize,
        attrs: &'a [Attribute],
        sig: &'a Signature,
        default: Option<&'a Block>,
        args: FunctionArgs,
    ) -> Function<'a> {
        let result = Returned::lower(&sig.output, args.result);
        let typed = sig.inputs.iter().filter_map(|it| match it {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        let parameters = typed.enumerate().map(|(index, it)| Parameter::lower(index, it));
        let (name, parameters) = (&sig.ident, parameters.collect());
        Function { kind, attrs, sig, default, index, name, args, parameters, result }
    }

    /// Returns what errors call the function: "worker function `deposit`".
    pub(crate) fn title(&self) -> String {
        format!("{} function `{}`", self.kind.attribute(), self.name)
    }

    pub(crate) fn is_async(&self) -> bool {
        self.sig.asyncness.is_some()
    }

    pub(crate) fn takes_context(&self) -> bool {
        self.contexts().next().is_some()
    }

    pub(crate) fn contexts(&self) -> impl Iterator<Item = &Context<'a>> {
        self.parameters.iter().filter_map(|it| match it {
            Parameter::Context(context) => Some(context),
            Parameter::Argument(_) => None,
        })
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Argument<'a>> {
        self.parameters.iter().filter_map(|it| match it {
            Parameter::Argument(argument) => Some(argument),
            Parameter::Context(_) => None,
        })
    }

    /// Returns the `#[cfg]` attributes of the function.
    pub(crate) fn cfgs(&self) -> impl Iterator<Item = &'a Attribute> + Clone {
        self.attrs.iter().filter(|it| it.path().is_ident("cfg"))
    }

    pub(crate) fn is_conditional(&self) -> bool {
        self.cfgs().next().is_some()
    }

    /// Returns whether `other` declares the same name again, which rustc reports. Not if `#[cfg]`
    /// can choose one of the two.
    fn is_repeated_by(&self, other: &Function) -> bool {
        self.name == other.name && !(self.is_conditional() && other.is_conditional())
    }

    pub(crate) fn is_deprecated(&self) -> bool {
        self.attrs.iter().any(|it| it.path().is_ident("deprecated"))
    }
}

impl<'a> Parameter<'a> {
    fn lower(index: usize, syntax: &'a PatType) -> Parameter<'a> {
        let (ty, borrow) = match ungrouped(&syntax.ty) {
            Type::Reference(reference) => {
                let TypeReference { and_token: and, lifetime, mutability, elem, .. } = reference;
                let (lifetime, mutable) = (lifetime.as_ref(), mutability.as_ref());
                (&**elem, Some(Borrow { and, lifetime, mutable }))
            }
            _ => (&*syntax.ty, None),
        };
        match (ungrouped(ty), borrow) {
            (Type::Path(ty), Some(Borrow { mutable, .. })) if names_last(&ty.path, "Context") => {
                Parameter::Context(Context { ty, mutable })
            }
            (_, borrow) => Parameter::Argument(Argument::lower(index, syntax, ty, borrow)),
        }
    }
}

impl<'a> Context<'a> {
    /// Returns the type argument, if one is written.
    pub(crate) fn state(&self) -> Option<&'a Type> {
        type_arguments(&self.ty.path).first().copied()
    }

    /// Returns whether this can be `rpc_parallel::Context`, which has no lifetime, unlike
    /// `std::task::Context<'_>`.
    pub(crate) fn is_ours(&self) -> bool {
        search::lifetime(self.ty).is_none()
    }
}

impl<'a> Argument<'a> {
    fn lower(
        index: usize,
        syntax: &'a PatType,
        ty: &'a Type,
        borrow: Option<Borrow<'a>>,
    ) -> Argument<'a> {
        Argument {
            syntax,
            named: is_plain_name(&syntax.pat),
            name: written_name(&syntax.pat)
                .cloned()
                .unwrap_or_else(|| names::argument(index, names::at(&syntax.pat))),
            owned: names::argument(index, names::at(ty)),
            ty,
            elements: if borrow.is_none() { stream_elements(ty) } else { None },
            borrow,
        }
    }
}

impl Argument<'_> {
    /// Returns whether the type is called `Context` and is not borrowed.
    pub(crate) fn is_owned_context(&self) -> bool {
        let Type::Path(ty) = ungrouped(self.ty) else { return false };
        self.borrow.is_none() && names_last(&ty.path, "Context")
    }

    /// Returns whether the type is `dyn Trait` or `&dyn Trait`.
    pub(crate) fn is_trait_object(&self) -> bool {
        matches!(ungrouped(self.ty), Type::TraitObject(_))
    }

    /// Returns the owned type to write instead of an unsized type that is taken by value.
    pub(crate) fn owned_instead_of_unsized(&self) -> Option<&'static str> {
        match ungrouped(self.ty) {
            _ if self.borrow.is_some() => None,
            Type::Slice(_) => Some("Vec<..>"),
            Type::Path(path) if path.path.is_ident("str") => Some("String"),
            _ => None,
        }
    }
}

/// Returns the `T` of a `Pipe<T>`.
fn stream_elements(ty: &Type) -> Option<&Type> {
    let elements = pipes::whole(ty).filter(|it| it.kind == Kind::Pipe)?.elements;
    // In the client's function rustc would report these mistakes a second time.
    let wrong = search::word(elements, "impl").or_else(|| search::borrow(elements));
    wrong.is_none().then_some(elements)
}

impl<'a> Returned<'a> {
    fn lower(output: &'a ReturnType, declared_fallible: bool) -> Returned<'a> {
        let ReturnType::Type(_, ty) = output else { return Returned::Nothing };
        match ungrouped(ty) {
            Type::Path(path) if names_last(&path.path, "Result") => Returned::Fallible(ty),
            ungrouped if declared_fallible && may_be_an_alias(ungrouped) => Returned::Fallible(ty),
            _ => Returned::Plain(ty),
        }
    }

    pub(crate) fn ty(&self) -> Option<&'a Type> {
        match self {
            Returned::Nothing => None,
            Returned::Plain(ty) | Returned::Fallible(ty) => Some(ty),
        }
    }
}

/// Returns whether `ty` can be an alias of `Result`. If it is not, rustc reports that later.
fn may_be_an_alias(ty: &Type) -> bool {
    let others = "bool char f32 f64 i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize \
                  Box Option String Vec";
    match ty {
        Type::Path(path) => !others.split_whitespace().any(|it| names_last(&path.path, it)),
        _ => false,
    }
}

fn is_plain_name(pat: &Pat) -> bool {
    matches!(pat, Pat::Ident(it)
        if it.by_ref.is_none() && it.mutability.is_none() && it.subpat.is_none())
}

/// Returns the name in `name`, `mut name` and `name @ pattern`.
fn written_name(pat: &Pat) -> Option<&Ident> {
    match pat {
        Pat::Ident(it) => Some(&it.ident),
        _ => None,
    }
}
