"""Words about the gastrointestinal tract. `vocabulary` says what the tables are for."""

from __future__ import annotations

from clipdemo.sources.phantom.grammar import Rules

PART: Rules = {
    "class_place": ("the gastrointestinal tract", "the lower gastrointestinal tract"),
    "class_adj": ("gastrointestinal tract",),
    "part_complaint": ("melaena", "altered bowel habits", "chronic diarrhoea", "rectal bleeding", "constipation"),
}  # fmt: skip

VIEWS: dict[str, Rules] = {
    "gut-endoscopy": {
        "adj": ("colonic", "mucosal", "intestinal", "colorectal"),
        "head": ("colonoscopic image", "colonoscopic view", "colonoscopy image"),
        "place": ("the colon", "the bowel", "the colonic mucosa", "the large intestine"),
        "at": ("in the colon", "on the colonic mucosa", "in the large bowel", "on the bowel wall"),
        "organ": ("submucosal vessels", "bowel wall", "haustral folds"),
    },
    "gut-barium": {
        "adj": ("colonic", "bowel", "intestinal"),
        "head": ("barium enema", "barium enema image", "enema radiograph"),
        "place": ("the colon", "the large bowel", "the intestine", "the bowel loops"),
        "at": ("in the colon", "in the large bowel", "in the bowel"),
        "organ": ("caecum", "sigmoid colon", "rectum"),
    },
}  # fmt: skip

NAMED_FINDINGS: dict[tuple[str, str], Rules] = {
    ("gut-endoscopy", "polyp"): {
        "named_one": ("a^ {small} mm colonic polyp", "{one} {at}", "a^ [sessile|pedunculated] colon polyp"),
    },
    ("gut-endoscopy", "ulcer"): {
        "named_one": ("a^ [shallow|deep|solitary] mucosal ulcer", "{one} {at}", "ulceration of the mucosa"),
    },
    ("gut-barium", "diverticula"): {
        "named_many": ("colonic diverticula", "{many} {at}", "[extensive|sigmoid] colonic diverticula"),
    },
}  # fmt: skip

STEMS = "bowel caec colon colorect enema gastrointest haustra intestin lumen mucosa rectum sigmoid submucos"
