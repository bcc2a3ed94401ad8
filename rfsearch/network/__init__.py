"""Architectures as frozen data, and the torch modules that are built from them with timm's parts.

In goes plain data (stem, stages, neck); out come an `Architecture`, whose readings are closed
forms, and with `build_model` an `nn.Module`. Start at `architecture`; `blocks` says what each
kind of block lowers to, `model` builds it.

Public names: `Architecture`, `Stage`, `Block`, `Stem`, `FPN`, `UNet`, `ASPP`, `Merge`,
`build_model`.
"""
