-- Before anything else: what constructs.yaml does not list is a problem, never a loss, and some
-- constructs are told where they must not stand.

local common = require("common")
local known = require("known")
local problem, words = common.problem, common.words
local check, unknown, by_words, either, called, ids =
  known.check, known.unknown, known.by_words, known.either, known.called, known.ids
local stringify = pandoc.utils.stringify
local M = {}

-- Some things cannot stand inside others; `place` is what we are in.
local place
local function inside(where, elements, filter)
  local before = place
  place = where
  elements:walk(filter)
  place = before
end
local function keep_out(element, what, ...)
  for _, where in ipairs({ ... }) do
    if place == where then problem(element.src or by_words(element), what .. " cannot stand in " .. where) end
  end
end

local filter

local function check_image(kind, image)
  check(kind, image)
  if image.title ~= "" then unknown(kind .. " title=", '"' .. image.title .. '"', "the title of an image") end
  local width = image.attributes.width
  if width and not (width:match("^[%d.]+%%$") or width:match("^[%d.]+[ci][mn]$") or width:match("^[%d.]+mm$")) then
    problem("width=" .. width, "give the width of an image as 80%, 6cm or 3in")
  end
end

local function check_figure(figure)
  local image = figure.content[1].content[1]
  keep_out(image, "a figure", "a footnote", "a caption")
  check("Figure", figure)
  check_image("Figure", image)
  if not image.attributes["fig-alt"] then problem(image.src, "say in fig-alt what is to be seen in " .. image.src) end
  inside("a caption", figure.caption.long, filter)
  return nil, false
end

local function check_callout(div)
  check("Callout", div)
  if #div.classes > 1 then problem("." .. div.classes[2], "a callout has one class") end
  local title = div.attributes.title
  if title then inside("a heading", pandoc.read(title, "markdown").blocks, filter) end
  if div.attributes.collapse and div.attributes.collapse ~= "true" then
    problem(either("collapse=" .. div.attributes.collapse, 'collapse="' .. div.attributes.collapse), "a callout is folded by collapse=\"true\" or not at all")
  end
  local rest = pandoc.Blocks(div.content)
  if not title and rest[1] and rest[1].t == "Header" then
    inside("a heading", rest:remove(1).content, filter)
  end
  inside("a callout", rest, filter)
  return nil, false
end

-- Captions side by side get clashing numbers in Quarto unless each figure has an id.
local function check_cells(div)
  local figures, others = 0, 0
  for _, block in ipairs(div.content) do
    local figure = common.as_figure(block)
    if not figure then others = others + 1
    elseif figure.identifier == "" and #figure.caption.long > 0 then
      problem(by_words(figure.caption.long), "a figure beside others needs an id, as {#fig-name}")
    end
    figures = figures + (figure and 1 or 0)
  end
  local captions = div.attributes["layout-ncol"] and div.identifier == "" and 0 or 1
  if figures == 0 or others > captions then
    problem(div.identifier ~= "" and "#" .. div.identifier or "layout-ncol=",
      "only figures can stand in a division that is a figure or has columns" .. (captions == 1 and ", and one caption below them" or ""))
  end
end

local function check_div(div)
  -- No construct of the chapters: vitrail.report.source_lines puts it in, sources.lua lays it out.
  if div.classes:includes("source") then return nil, false end
  for _, class in ipairs(div.classes) do
    if class:match("^callout%-") then return check_callout(div) end
  end
  local kind = ({ fig = "FigureDiv", tbl = "TableDiv" })[div.identifier:match("^(%a+)%-") or ""]
    or div.classes:includes("explore") and "View" or div.attributes["layout-ncol"] and "Columns" or "Div"
  keep_out(div, "a division", "a footnote")
  check(kind, div)
  if #div.classes > 1 then problem("." .. div.classes[2], "a division has one class; put one into the other") end
  if kind == "FigureDiv" or kind == "Columns" then check_cells(div) end
end

local function check_table(block)
  keep_out(block, "a table", "a footnote")
  local widths
  for _, spec in ipairs(block.colspecs) do widths = widths or spec[2] end
  local first = block.head.rows[1] or block.bodies[1].body[1]
  if widths then problem(by_words(pandoc.Div(first.cells[1].contents)), "a table is written with pipes: | a | b |") end
  check("Table", block)
  inside("a caption", block.caption.long, filter)
  local function rows(list)
    for _, row in ipairs(list) do
      for _, cell in ipairs(row.cells) do inside("a table", cell.contents, filter) end
    end
  end
  rows(block.head.rows)
  for _, body in ipairs(block.bodies) do rows(body.body) end
  return nil, false
end

local function check_cite(cite)
  local ours = words[(cite.citations[1].id:match("^(%a+)%-")) or ""]
  keep_out(cite, ours and "a reference" or "a citation", "a heading")
  check(ours and "Reference" or "Cite", cite)
  for _, citation in ipairs(cite.citations) do
    if ours and citation.mode == "SuppressAuthor" then unknown("Reference suppressed", "@" .. citation.id, "[-@...]") end
    if ours and (#citation.prefix > 0 or #citation.suffix > 0) then
      unknown("Reference affix", "@" .. citation.id, "text beside @" .. citation.id .. " inside the brackets")
    end
    inside(place, citation.prefix, filter)
    inside(place, citation.suffix, filter)
  end
  return nil, false
end

local function check_raw(element)
  if element.text:match("^%s*<!%-%-") then return {} end
  problem("~" .. element.text, "raw " .. element.format .. " would be lost in the other format: " .. element.text)
  return {}
end

-- What pandoc could not read stays as text.
local leftovers = {
  { "^{[#.][%w_-]", "these attributes belong to nothing" }, { "[%]%)]{[#.][%w_-]", "these attributes belong to nothing" }, { "^{[%w_-]+=", "these attributes belong to nothing" },
  { "^:::", "a division that was not opened, or not closed, as it should be" },
  { "%[%^", "this footnote is not defined" }, { "%]%[", "this link is not defined" },
  { "^☐$", "a list of tasks looks different in HTML and PDF" },
  { "^☒$", "a list of tasks looks different in HTML and PDF" },
}

-- The pieces of text read last, for `common.before`; the last of them is being looked at.
local read, current = {}, 0
local function read_before()
  local words = {}
  for position = current - 4, current - 1 do
    words[#words + 1] = read[position]
  end
  return table.concat(words, " "):sub(-200)
end

local function check_inlines(inlines)
  local text = stringify(inlines)
  current = current + 1
  read[current], read[current - 5] = text, nil
  -- Most texts have nothing to look at, and looking is slow.
  if not (text:find("[{%[]") or text:find(":::", 1, true) or text:find("\226\152", 1, true)) then return end
  local position, equation = 1, nil
  while position <= #inlines do
    local inline = inlines[position]
    local id = inline.t == "Str" and equation and inline.text:match("^{#(eq%-[%w_-]+)}")
    if id then
      unknown("NumberedEquation #eq-", "#" .. id, "a numbered equation")
      keep_out(equation, "a numbered equation", "a footnote", "a caption", "a table", "a heading")
      ids[id] = true
    elseif inline.t == "Str" then
      for _, leftover in ipairs(leftovers) do
        if inline.text:match(leftover[1]) then problem(either(inline.text, "[ ]", "[x]"), "'" .. inline.text .. "' is left in the text: " .. leftover[2]) end
      end
    end
    if inline.t == "Math" and inline.mathtype == "DisplayMath" then equation = inline
    elseif inline.t ~= "Space" and inline.t ~= "SoftBreak" then equation = nil end
    position = position + 1
  end
end

local links = {}

filter = {
  traverse = "topdown",
  Inlines = check_inlines,
  RawBlock = check_raw,
  RawInline = check_raw,
  Div = check_div,
  Figure = check_figure,
  Para = function(paragraph)
    local figure = common.as_figure(paragraph)
    if figure then return check_figure(figure) end
    check("Para", paragraph)
  end,
  Table = check_table,
  Cite = check_cite,
  Header = function(header)
    problem(by_words(header), "a heading stands at the left margin, in no division, list or quotation")
    return nil, false
  end,
  Note = function(note)
    check("Note", note)
    keep_out(note, "a footnote", "a heading", "a caption", "a footnote")
    inside("a footnote", note.content, filter)
    return nil, false
  end,
  Image = function(image)
    keep_out(image, "an image", "a heading", "a caption")
    check_image("Image", image)
    return nil, false
  end,
  Link = function(link)
    keep_out(link, "a link", "a heading")
    check("Link", link)
    if link.title ~= "" then unknown("Link title=", '"' .. link.title .. '"', "the title of a link") end
    if link.target:match("%.qmd") then problem(link.target, "link to a section by its id, as (#sec-name), not to a file of the sources") end
    local known_place = link.target:match("^#") or link.target:match("^https?://") or link.target:match("^%.%./")
    if not known_place then problem(link.target, "a link leads to #section, to https://... or up to a file of the study, as ../q6_vit/table.csv") end
    if link.target:sub(1, 1) == "#" then links[#links + 1] = link.target end
  end,
  Span = function(span)
    local is_verdict = span.classes:includes("verdict")
    check(is_verdict and "Verdict" or "Span", span)
    if is_verdict and (#span.classes ~= 2 or span.classes[1] ~= "verdict") then
      problem(by_words(span), "a verdict is written [words]{.verdict .supported}, or with another of its kinds")
    end
  end,
  Math = function(math) unknown(math.mathtype, "~" .. math.text, called(math.mathtype)) end,
  OrderedList = function(list)
    check("OrderedList", list)
    local style, delimiter = list.style, list.delimiter
    if style ~= "Decimal" and style ~= "DefaultStyle" or delimiter ~= "Period" and delimiter ~= "DefaultDelim" then
      problem(by_words(pandoc.Div(list.content[1])), "a numbered list is written 1. 2. 3.")
    end
  end,
}
for kind in ("Plain CodeBlock LineBlock BulletList DefinitionList HorizontalRule BlockQuote LineBreak " ..
             "Quoted Emph Strong Strikeout Superscript Subscript Underline SmallCaps Code"):gmatch("%a+") do
  filter[kind] = filter[kind] or function(element) check(kind, element) end
end

-- Looks at the whole document; gives it back without its comments.
function M.check(doc)
  local front_matter = {}
  for _, key in ipairs(known.front_matter) do front_matter[key] = true end
  for key in pairs(doc.meta) do
    if not front_matter[key] then problem(key .. ":", "the report does not know '" .. key .. "' in the front matter") end
  end
  common.before = read_before
  for _, block in ipairs(doc.blocks) do
    current = current + 1 -- all text so far is read
    if block.t == "Header" then
      check("Header", block)
      inside("a heading", block.content, filter)
    else
      pandoc.Blocks({ block }):walk(filter)
    end
  end
  common.before = function() return "" end
  for _, target in ipairs(links) do
    local id = target:sub(2)
    if not ids[id] and not id:match("^ref%-") then problem(target, "the link to " .. target .. " leads nowhere") end
  end
  return doc:walk({ RawBlock = check_raw, RawInline = check_raw })
end

return M
