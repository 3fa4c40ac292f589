"""Trains a backbone from random weights on pictures that a program draws, and on nothing else.

`formulas` draws what tells one material from another, `fields` and `materials` make sheets of them,
`bank` keeps sheets and looks pixels up, `layouts`, `defects` and `scenes` compose pictures of
products of which some parts are defective, `losses` says what is to be learned from them, `recipe`
takes a network through it. `sheet` shows the pictures.

Nobody's pictures and no pretrained network take part, as teacher, start or loss. The idea is that
of learning from formulas (Kataoka et al., "Pre-training without natural images", 2020).
"""
