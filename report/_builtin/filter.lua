-- What Quarto adds to pandoc's Markdown and the report uses, for HTML and Typst: numbered
-- sections, figures, sub-figures, tables and equations with references to them, callouts,
-- the answer box, verdict chips, and code with a file name. Includes and variables are
-- already in (vitrail.report.source). Nothing is dropped in silence: each problem is
-- collected as "token <tab> message" and ends the run with exit status 3.

package.path = pandoc.path.join({ pandoc.path.directory(PANDOC_SCRIPT_FILE), "?.lua" }) .. ";" .. package.path
local common = require("common")
local checks = require("checks")
local floats = require("floats")
local references = require("references")
local tables = require("tables")
local html, callouts, raw, raw_inline, escape = common.html, common.callouts, common.raw, common.raw_inline, common.escape
local problem, register, prefix_of = common.problem, common.register, common.prefix_of
local stringify = pandoc.utils.stringify

-- Sections. Level 1 of the outline is whatever level the report's top headings have.

local top_level = 6
local section_numbers = { 0, 0, 0, 0, 0, 0 }

local function number_section(header)
  local level = math.max(header.level - top_level + 1, 1)
  if level == 1 then floats.new_chapter() end
  header.level = html and level + 1 or level
  if header.classes:includes("unnumbered") then
    register(header.identifier)
    return header
  end
  section_numbers[level] = section_numbers[level] + 1
  for deeper = level + 1, #section_numbers do section_numbers[deeper] = 0 end
  local number = table.concat(section_numbers, ".", 1, level)
  register(header.identifier, number)
  if html then
    header.content:insert(1, pandoc.Space())
    header.content:insert(1, pandoc.Span(number, pandoc.Attr("", { "header-section-number" })))
  end
  return header
end

-- Callouts and boxes.

local structure

local function inside(blocks) return pandoc.Blocks(blocks):walk(structure) end

local function callout(div, kind)
  local title = div.attributes.title and
    pandoc.utils.blocks_to_inlines(pandoc.read(div.attributes.title, "markdown").blocks)
  if not title and div.content[1] and div.content[1].t == "Header" then
    title = div.content:remove(1).content
  end
  title = title or pandoc.Inlines(callouts[kind])
  local out = pandoc.Blocks({})
  if html then
    local folded = div.attributes.collapse == "true"
    local outer, inner = folded and "details" or "div", folded and "summary" or "p"
    out:insert(raw('<' .. outer .. ' class="note-box note-' .. kind .. '"' ..
      (folded and "" or ' role="note"') .. '><' .. inner .. ' class="note-title">'))
    out:insert(pandoc.Plain(title))
    out:insert(raw("</" .. inner .. ">"))
    out:extend(inside(div.content))
    out:insert(raw("</" .. outer .. ">"))
  else
    out:extend({ raw('#callout("' .. kind .. '", ['), pandoc.Plain(title), raw("])[") })
    out:extend(inside(div.content))
    out:insert(raw("]"))
  end
  return out
end

local function division(div)
  for kind in pairs(callouts) do
    if div.classes:includes("callout-" .. kind) then return callout(div, kind) end
  end
  if div.classes:includes("source") then return { div } end  -- laid out by sources.lua
  local kind = prefix_of(div.identifier)
  if kind == "fig" then return floats.figure_div(div) end
  if kind == "tbl" then return floats.table_div(div) end
  if div.attributes["layout-ncol"] then
    local cells = {}
    for _, block in ipairs(div.content) do cells[#cells + 1] = inside({ common.as_figure(block) or block }) end
    return floats.grid(floats.columns_of(div), cells)
  end
  div.content = inside(div.content)
  -- An interactive view is for the page alone; in the PDF its figure stands there as any other.
  if not html and div.classes:includes("explore") then return div.content end
  if html or #div.classes == 0 or div.identifier == "refs" then return { div } end
  local out = pandoc.Blocks({ raw("#" .. div.classes[1] .. "[") })
  if div.identifier ~= "" then out:insert(raw('#metadata("") <' .. div.identifier .. ">")) end
  out:extend(div.content)
  out:insert(raw("]"))
  return out
end

-- A formula for Typst, with its TeX as the text for screen readers. Pandoc makes the negative
-- space six times too wide and sets `\operatorname` as a word.
local function typst_formula(math, number, id)
  local numbering = number and ', numbering: _ => "(' .. number .. ')"' or ""
  local alt = escape(math.text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
  math.text = math.text:gsub("\\!", "")
  local text = pandoc.write(pandoc.Pandoc({ pandoc.Plain({ math }) }), "typst")
  text = text:gsub("%s+$", ""):gsub('"(%a+)" ', 'op("%1") ')
  return raw_inline('#[#set math.equation(alt: "' .. alt .. '"' .. numbering .. ")\n" .. text .. (id and " <" .. id .. ">" or "") .. "]")
end

-- What may be wider than the page scrolls in a box of its own, which the keyboard can reach.
local scrolls = { tabindex = "0" }

-- Equations: `$$ ... $$ {#eq-x}` anywhere in a paragraph.
local function equations(inlines)
  local out = pandoc.Inlines({})
  local position = 1
  while position <= #inlines do
    local inline = inlines[position]
    if inline.t == "Math" and inline.mathtype == "DisplayMath" then
      local after = position + 1
      while inlines[after] and (inlines[after].t == "Space" or inlines[after].t == "SoftBreak") do after = after + 1 end
      local id, rest = nil, nil
      if inlines[after] and inlines[after].t == "Str" then
        id, rest = inlines[after].text:match("^{#(eq%-[%w_-]+)}(.*)$")
      end
      local number = id and common.next_number("eq")
      if id then
        register(id, number)
        position = after
      end
      if html then
        local parts = pandoc.Inlines({ pandoc.Span({ inline }, pandoc.Attr("", { "equation-body" }, scrolls)) })
        if id then parts:insert(pandoc.Span("(" .. number .. ")", pandoc.Attr("", { "equation-number" }))) end
        out:insert(pandoc.Span(parts, pandoc.Attr(id or "", { "equation" })))
      else
        out:insert(typst_formula(inline, number, id))
      end
      if rest and rest ~= "" then out:insert(pandoc.Str(rest)) end
    else
      out:insert(inline)
    end
    position = position + 1
  end
  return out
end

structure = {
  traverse = "topdown",
  Header = function(header)
    number_section(header)
    -- The figures of a chapter stay in it. In the heading's own show rule this would make the
    -- contents and the outline name the page before.
    if not html and header.level == 1 then return { raw("#place.flush()"), header }, false end
    return header, false
  end,
  Div = function(div) return division(div), false end,
  Figure = function(figure)
    return floats.numbered_float("fig", figure.identifier, floats.caption_of(figure), figure.content), false
  end,
  Table = function(block)
    local id, caption = block.identifier, floats.caption_of(block)
    if block.attributes["tbl-colwidths"] then tables.column_widths(block, block.attributes["tbl-colwidths"]) end
    if id == "" and #caption == 0 then return nil, false end
    block.identifier, block.attributes, block.caption = "", {}, { long = {} }
    return floats.numbered_float("tbl", id, caption, { block }), false
  end,
  Para = function(paragraph)
    local figure = common.as_figure(paragraph)
    if figure then
      return floats.numbered_float("fig", figure.identifier, floats.caption_of(figure), figure.content), false
    end
    paragraph.content = equations(paragraph.content)
    return paragraph, false
  end,
  Plain = function(plain)
    plain.content = equations(plain.content)
    return plain, false
  end,
}

-- The looks of single elements.

local function image(element)
  local source = element.src
  if source:match("^%a+:") or source:match("^//") then
    problem(source, "the image " .. source .. " is not a file of the report")
    return nil
  end
  local file = io.open(source, "rb")
  if not file then
    problem(source, "the image " .. source .. " is not there")
    return nil
  end
  file:close()
  local alt = element.attributes["fig-alt"] or stringify(element.caption)
  element.attributes["fig-alt"] = nil
  if html then
    element.caption = pandoc.Inlines(alt)
    element.title = ""
    -- On a phone the figure keeps the size of its text and scrolls in this box (page.css).
    return { raw_inline('<span class="figure-box" tabindex="0" role="group" aria-label="Figure">'), element, raw_inline("</span>") }
  end
  local width = element.attributes.width or "auto"
  return raw_inline('#box(image("' .. escape(source) .. '", alt: "' .. escape(alt) .. '", width: ' .. width .. "))")
end

local function verdict(span)
  if html or not span.classes:includes("verdict") then return nil end
  local out = pandoc.Inlines({ raw_inline('#verdict("' .. (span.classes[2] or "") .. '")[') })
  out:extend(span.content)
  out:insert(raw_inline("]"))
  return out
end

local function code(block)
  local name = block.attributes.filename
  block.attributes.filename = nil
  if html then
    block.attributes.tabindex = scrolls.tabindex
    if not name then return block end
    return { raw('<div class="code-with-filename"><div class="code-with-filename-file">' .. escape(name) .. "</div>"),
             block, raw("</div>") }
  end
  if not name then return nil end
  return { raw('#code-file("' .. escape(name) .. '")['), block, raw("]") }
end

function Pandoc(doc)
  doc = checks.check(doc)
  if not html then doc = doc:walk({ Blocks = floats.sources_into_captions }) end
  for _, block in ipairs(doc.blocks) do
    if block.t == "Header" then top_level = math.min(top_level, block.level) end
  end
  doc.blocks = doc.blocks:walk(structure)
  doc = doc:walk({ Table = tables.fit_table })
  doc = doc:walk({ Cite = references.resolve, Span = verdict, CodeBlock = code, Image = image, Math = not html and function(math) return typst_formula(math) end or nil })
  references.check_citations(doc)
  if #common.problems == 0 then
    doc.meta["link-citations"] = true
    if not html then doc.meta["title-text"] = raw_inline(escape(stringify(doc.meta.title or ""))) end
    doc = pandoc.utils.citeproc(doc):walk({ traverse = "topdown", Div = references.bibliography })
    return doc
  end
  io.stderr:write(table.concat(common.problems, "\n"), "\n")
  os.exit(3)
end
