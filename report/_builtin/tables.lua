-- Tables: widths that somebody asked for, and what is too wide for the page.

local common = require("common")
local html, raw, problem = common.html, common.raw, common.problem
local stringify = pandoc.utils.stringify
local here = pandoc.path.directory(PANDOC_SCRIPT_FILE)
local align = dofile(pandoc.path.join({ here, "..", "decimals.lua" }))[1].Table
local M = {}

-- `tbl-colwidths="[40,60]"`, in per cent.
function M.column_widths(block, widths)
  local values = {}
  for value in widths:gmatch("[%d.]+") do values[#values + 1] = tonumber(value) end
  if #values ~= #block.colspecs then
    problem(widths, "tbl-colwidths has not one number for each column")
    return
  end
  for column, value in ipairs(values) do
    block.colspecs[column] = { block.colspecs[column][1], value / 100 }
  end
end

-- How many letters each column needs: `whole` with every cell on one line, `word` for its
-- longest word, `number` for its longest number with unit and interval.
local function letters(text) return utf8.len(text) or #text end

-- What decimals.lua makes room for; nil for anything else.
local function hidden(inline) return inline.text:match('^#hide%("(.*)"%);$') end

local function column_needs(block)
  local needs = {}
  for column, spec in ipairs(block.colspecs) do
    needs[column] = { whole = 1, word = 1, number = 1, numeric = spec[1] == "AlignRight" }
  end
  local function look(rows, header)
    for _, row in ipairs(rows) do
      for column, cell in ipairs(row.cells) do
        local need = needs[column]
        local content = cell.contents:walk({
          Span = function(span)
            if span.classes:includes("verdict") then return pandoc.Str(stringify(span):gsub("%s", "_") .. "______") end
          end,
          RawInline = function(room) return pandoc.Str(hidden(room) or "") end,
        })
        local text = stringify(content)
        need.whole = math.max(need.whole, letters(text))
        if need.numeric and not header then need.number = math.max(need.number, letters(text)) end
        for word in text:gmatch("%S+") do need.word = math.max(need.word, letters(word)) end
      end
    end
  end
  look(block.head.rows, true)
  for _, body in ipairs(block.bodies) do look(body.body, false) end
  return needs
end

-- A4 text width in pt, and the width of a letter in em, on the safe side.
local text_width, letter = 447, 0.49

-- Shares of the text width for each column, or nil when `size` (in pt) is too large: numbers
-- get what they need, columns of text share the rest. `broken` lets intervals take two lines.
local function shares(needs, size, broken)
  local widths, rest, weight = {}, text_width, 0
  for column, need in ipairs(needs) do
    local least = math.max(need.word, need.numeric and not broken and need.number or 1)
    local text = not need.numeric and need.whole > need.word
    if text then least = math.max(least, math.min(need.whole, 16)) end
    widths[column] = least * letter * size + 6
    rest = rest - widths[column]
    need.weight = text and math.min(need.whole, 80) - least or 0
    weight = weight + need.weight
  end
  if rest < 0 then return nil end
  for column, need in ipairs(needs) do
    local more = weight > 0 and rest * need.weight / weight or 0
    widths[column] = (widths[column] + more) / text_width
  end
  return widths
end

-- A table too wide for the page gets smaller letters and columns that wrap.
local function fitted(block)
  local needs, whole = column_needs(block), 0
  for _, need in ipairs(needs) do whole = whole + need.whole * letter * 9 + 11 end
  if whole <= text_width then return block, false end
  for _, try in ipairs({ { 9 }, { 8.5 }, { 8 }, { 7.5 }, { 7 }, { 6.5 },
                         { 8, true }, { 7.5, true }, { 7, true }, { 6.5, true }, { 6, true } }) do
    local widths = shares(needs, try[1], try[2])
    if widths then
      for column, width in ipairs(widths) do
        block.colspecs[column] = { block.colspecs[column][1], width }
      end
      -- Where intervals take two lines, nothing is left to line up.
      if try[2] then block = block:walk({ RawInline = function(room) return hidden(room) and {} end }) end
      return { raw("#fitted(" .. try[1] .. "pt)["), block, raw("]") }, false
    end
  end
  problem("", "a table with " .. #needs .. " columns is too wide for a page; show fewer columns (the first is called '" ..
    stringify(block.head.rows[1] and block.head.rows[1].cells[1].contents or {}) .. "')")
end

function M.fit_table(block)
  block = align(block)
  if not html then
    -- Widths that somebody asked for stay as they are.
    for _, spec in ipairs(block.colspecs) do
      if spec[2] then return block, false end
    end
    return fitted(block)
  end
  local wide = #block.colspecs > 6 and " wide" or ""
  local box = '<div class="table-box' .. wide .. '" tabindex="0" role="region" aria-label="Table">'
  return { raw(box), block, raw("</div>") }, false
end

return M
