-- Under Quarto: tables as wide as they need, and, as style.css does not reach the PDF, boxes,
-- verdicts and code that quarto.typ draws there.

-- Pandoc gives the columns of a pipe table with a line over 72 letters equal (or dash-counted)
-- widths. Quarto applies `tbl-colwidths` after this.
local function own_widths(tbl)
  for column, spec in ipairs(tbl.colspecs) do tbl.colspecs[column] = { spec[1] } end
  return tbl
end

if not FORMAT:match("typst") then return { { Table = own_widths } } end

local boxes = { answer = true, answers = true, provenance = true, small = true }
local verdicts = { supported = true, refuted = true, undecided = true, notrun = true }

local function block(text) return pandoc.RawBlock("typst", text) end
local function inline(text) return pandoc.RawInline("typst", text) end

-- Long names have nowhere to break; a narrow cell would print them over its neighbour.
local function break_up(element)
  if #element.text < 16 then return nil end
  element.text = element.text:gsub("[_/.,]", "%0\u{200b}")
  return element
end
local breakable = { Code = break_up, Str = break_up }

-- Pandoc makes the negative space six times too wide and puts a gap after `\operatorname`.
local function formula(math)
  math.text = math.text:gsub("\\!", "")
    :gsub("\\operatorname(%b{})%s*([_({\\]?)([a-z]*)", function(name, next_sign, next_word)
      local thin = next_sign == "\\" and next_word ~= "left" and "\\," or ""
      return "\\mathrm" .. name .. thin .. next_sign .. next_word
    end)
  return math
end

return {
  {
    Math = formula,
    Table = function(tbl) return own_widths(tbl):walk(breakable) end,
    Div = function(div)
      if div.identifier == "refs" then
        -- Quarto fills the list later; long entries hang, as on the page.
        return { block("#["), block("#set par(hanging-indent: 1.4em, justify: false)"), div, block("]") }
      end
      local kind = div.classes[1]
      if kind == "explore" then return div.content end
      if not boxes[kind] then return nil end
      div.content:insert(1, block("#" .. kind .. "["))
      div.content:insert(block("]" .. (div.identifier ~= "" and " <" .. div.identifier .. ">" or "")))
      return div.content
    end,
    Span = function(span)
      local kind = span.classes[2]
      if span.classes[1] ~= "verdict" or not verdicts[kind] then return nil end
      span.content:insert(1, inline('#verdict("' .. kind .. '")['))
      span.content:insert(inline("]"))
      return span.content
    end,
    CodeBlock = function(code)
      local name = code.attributes.filename
      code.attributes.filename = nil
      local shown = name and '"' .. name:gsub('[\\"]', "\\%0") .. '"' or "none"
      return { block("#code-block(" .. shown .. ")["), code, block("]") }
    end,
  },
}
