//! Finds the pipes in types as they are written.
//!
//! A type is taken for ours if its path ends in `Pipe<T>` or `PipeWriter<T>`, with one type in its
//! brackets. More cannot be seen here; if it is another type after all, the compiler says so.

use syn::{GenericArgument, Ident, PathArguments, Type, TypePath};

use crate::model::{type_arguments, ungrouped};

/// `Pipe<T>` or `PipeWriter<T>`.
pub(crate) struct Written<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a Ident,
    pub(crate) elements: &'a Type,
}

#[derive(PartialEq)]
pub(crate) enum Kind {
    Pipe,
    Writer,
}

/// The pipe that the whole type is.
pub(crate) fn whole(ty: &Type) -> Option<Written<'_>> {
    let Type::Path(TypePath { qself: None, path, .. }) = ungrouped(ty) else { return None };
    let last = path.segments.last()?;
    let PathArguments::AngleBracketed(written) = &last.arguments else { return None };
    let mut written = written.args.iter();
    let (Some(GenericArgument::Type(elements)), None) = (written.next(), written.next()) else {
        return None;
    };
    let name = &last.ident;
    let kinds = [("Pipe", Kind::Pipe), ("PipeWriter", Kind::Writer)];
    let (_, kind) = kinds.into_iter().find(|(it, _)| name == it)?;
    Some(Written { kind, name, elements })
}

/// All pipes in a type.
pub(crate) fn within(ty: &Type) -> Vec<Written<'_>> {
    let mut found = Vec::new();
    collect(ty, &mut found);
    found
}

fn collect<'a>(ty: &'a Type, found: &mut Vec<Written<'a>>) {
    found.extend(whole(ty));
    match ungrouped(ty) {
        Type::Array(array) => collect(&array.elem, found),
        Type::Slice(slice) => collect(&slice.elem, found),
        Type::Reference(reference) => collect(&reference.elem, found),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|it| collect(it, found)),
        Type::Path(path) => type_arguments(&path.path).iter().for_each(|it| collect(it, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proc_macro2::TokenStream;
    use quote::{ToTokens, quote};

    use super::*;

    fn found_in(ty: TokenStream) -> Vec<String> {
        let ty = syn::parse2(ty).expect("this is a type");
        let found = within(&ty).into_iter();
        found.map(|it| format!("{} of {}", it.name, it.elements.to_token_stream())).collect()
    }

    #[test]
    fn a_pipe_is_known_by_the_end_of_its_path() {
        assert_eq!(found_in(quote!(Pipe<u64>)), ["Pipe of u64"]);
        assert_eq!(found_in(quote!((rpc_parallel::Pipe::<u64>))), ["Pipe of u64"]);
    }

    #[test]
    fn a_pipe_is_found_however_deep_it_is() {
        let found = found_in(quote!(Result<&[(u8, Option<[PipeWriter<u8>; 2]>)], Pipe<Pipe<u8>>>));

        assert_eq!(found, ["PipeWriter of u8", "Pipe of Pipe < u8 >", "Pipe of u8"]);
    }

    #[test]
    fn what_has_not_one_type_in_its_brackets_is_only_called_like_a_pipe() {
        let types = quote!((
            Pipe,
            PipeWriter,
            Pipe<u8, u16>,
            Pipe<'static, u8>,
            Pipe<4>,
            <Bank as Water>::Pipe<u8>,
            Pipes<u8>
        ));

        assert_eq!(found_in(types), [""; 0]);
    }
}
