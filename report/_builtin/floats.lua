-- Figures, sub-figures and tables with captions and numbers.

local common = require("common")
local tables = require("tables")
local raw_inline = common.raw_inline
local html, words, raw, escape, problem = common.html, common.words, common.raw, common.escape, common.problem
local register, next_number, prefix_of = common.register, common.next_number, common.prefix_of
local image_of, as_figure = common.image_of, common.as_figure
local M = {}

local first_of_chapter = true

function M.new_chapter() first_of_chapter = true end

-- One captioned box; `number` is nil when nothing can refer to it.
local function float(kind, id, number, caption, body)
  local out = pandoc.Blocks({})
  if html then
    local attribute = id ~= "" and ' id="' .. escape(id) .. '"' or ""
    local text = pandoc.Inlines(caption)
    if number then
      local label = kind == "sub" and number or words[kind] .. "\u{a0}" .. number .. "."
      text:insert(1, pandoc.Space())
      text:insert(1, pandoc.Span(label, pandoc.Attr("", { "float-label" })))
    end
    local figcaption = { raw("<figcaption>"), pandoc.Plain(text), raw("</figcaption>") }
    out:insert(raw("<figure" .. attribute .. ' class="float float-' .. kind .. '">'))
    if kind == "tbl" then out:extend(figcaption) end
    out:extend(body)
    if kind ~= "tbl" and #text > 0 then out:extend(figcaption) end
    out:insert(raw("</figure>"))
    return out
  end
  local kinds = { fig = "image", tbl = "table", sub = '"sub"' }
  local foot = kind == "fig" and first_of_chapter and "placement: bottom, " or ""
  if kind == "fig" then first_of_chapter = false end
  local start = "#figure(" .. foot .. "kind: " .. kinds[kind] .. ", supplement: [" .. (words[kind] or "") ..
    "], numbering: " .. (number and '_ => "' .. number .. '"' or "none") .. ", caption: "
  if number or #caption > 0 then
    out:extend({ raw(start .. "["), pandoc.Plain(caption), raw("])[") })
  else
    out:insert(raw(start .. "none)["))
  end
  out:extend(body)
  out:insert(raw("]" .. (id ~= "" and " <" .. id .. ">" or "")))
  return out
end

function M.caption_of(block)
  return pandoc.utils.blocks_to_inlines(block.caption.long)
end

function M.numbered_float(kind, id, caption, body)
  local number
  if prefix_of(id) == kind then
    number = next_number(kind)
    register(id, number)
  elseif id ~= "" then
    problem(id, "the id '" .. id .. "' should start with '" .. kind .. "-'")
  end
  return float(kind, id, number, caption, body)
end

function M.grid(columns, cells)
  local out = pandoc.Blocks({})
  if html then
    out:insert(raw('<div class="panel" style="--columns: ' .. columns .. '">'))
    for _, cell in ipairs(cells) do out:extend(cell) end
    out:insert(raw("</div>"))
  else
    out:insert(raw("#panel(" .. columns))
    for _, cell in ipairs(cells) do
      out:insert(raw(", ["))
      out:extend(cell)
      out:insert(raw("]"))
    end
    out:insert(raw(")"))
  end
  return out
end

function M.columns_of(div)
  local columns = tonumber(div.attributes["layout-ncol"] or "1")
  if not columns or columns < 1 or columns > 6 then
    problem("layout-ncol", "layout-ncol should be a number from 1 to 6")
    return 1
  end
  return math.floor(columns)
end

-- `::: {#fig-x layout-ncol=2}`: figures, then the caption as the last paragraph.
function M.figure_div(div)
  local caption = div.content[#div.content]
  if not caption or caption.t ~= "Para" or image_of(caption) then
    problem(div.identifier, "'" .. div.identifier .. "' needs a caption as its last paragraph")
    return {}
  end
  div.content:remove()
  local number = next_number("fig")
  register(div.identifier, number)
  local cells, letter = {}, string.byte("a")
  for _, block in ipairs(div.content) do
    local figure = as_figure(block)
    if figure and figure.identifier ~= "" then
      local mark = "(" .. string.char(letter) .. ")"
      letter = letter + 1
      register(figure.identifier, number .. "\u{a0}" .. mark)
      cells[#cells + 1] = float("sub", figure.identifier, mark, M.caption_of(figure), figure.content)
    elseif figure then
      cells[#cells + 1] = figure.content
    else
      cells[#cells + 1] = pandoc.Blocks({ block })
    end
  end
  local columns = M.columns_of(div)
  local body = (columns > 1 or #cells > 1) and M.grid(columns, cells) or cells[1] or {}
  return float("fig", div.identifier, number, caption.content, body)
end

-- `::: {#tbl-x}`: a table (often an included file), then the caption as the last paragraph.
function M.table_div(div)
  local caption = div.content[#div.content]
  if #div.content < 2 or caption.t ~= "Para" then
    problem(div.identifier, "'" .. div.identifier .. "' needs a table and a caption as its last paragraph")
    return {}
  end
  div.content:remove()
  for _, block in ipairs(div.content) do
    if block.t == "Table" and #block.caption.long > 0 then
      problem(div.identifier, "the table in '" .. div.identifier .. "' has a caption of its own; keep one of the two")
    elseif block.t == "Table" and div.attributes["tbl-colwidths"] then
      tables.column_widths(block, div.attributes["tbl-colwidths"])
    end
  end
  return M.numbered_float("tbl", div.identifier, caption.content, div.content)
end

-- What a float says last: its caption, or nil.
local function last_words(block)
  if block.t == "Table" or block.t == "Figure" then return block.caption.long[#block.caption.long] end
  local kind = block.t == "Div" and prefix_of(block.identifier)
  if kind == "fig" or kind == "tbl" then return block.content[#block.content] end
end

-- In the PDF figures float, so the line of a source goes with the caption.
function M.sources_into_captions(blocks)
  local out = pandoc.Blocks({})
  for _, block in ipairs(blocks) do
    local is_source = block.t == "Div" and block.classes:includes("source")
    local float = is_source and #out > 0 and (common.as_figure(out[#out]) or out[#out])
    local caption = float and last_words(float)
    if caption then
      out[#out] = float
      caption.content:extend({ raw_inline("#source-line["), pandoc.Span(block.content[1].content) })
      local runs = block.content[2]
      if runs then caption.content:insert(pandoc.Str("\u{a0}· " .. runs.attributes.title)) end
      caption.content:insert(raw_inline("]"))
    else
      out:insert(block)
    end
  end
  return out
end

return M
